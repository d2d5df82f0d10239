"""What a run will take on this machine: measured rates, the slowest step, hours and cost."""

from typing import Any

from rich.console import Console
from rich.table import Table

from captioner.benching import expect
from captioner.devices import Workload
from captioner.errors import ModelError
from captioner.presets import read_model_config
from tasks.options import ComputeOptions
from tasks.settings.common import numerics_for
from tasks.units.loaded import captioner_in_lane, encoder_in_lane


def expectations(
    model: str,
    encoder: str,
    compute: ComputeOptions,
    *,
    seconds: float,
    price_per_hour: float | None,
) -> dict[str, Any]:
    """The facts for `--json`; raises ModelError where the model does not name its encoder."""
    config = read_model_config(model)
    spec = config.encoder
    if not (encoder or spec.name):
        raise ModelError(f"The model {model!r} names no encoder; give one with --encoder.")
    numerics = numerics_for(compute, 1, Workload(width=config.mapper.token_dim))
    found = expect(
        encoder_in_lane(encoder or spec.name, spec.form, numerics),
        captioner_in_lane(model, numerics),
        numerics,
        seconds=seconds,
    )
    hours = found.hours_per_million
    return {
        "command": "bench",
        "ok": True,
        "model": model,
        "encoder": encoder or spec.name,
        "device": numerics.device,
        "dtype": numerics.dtype,
        "threads": numerics.threads,
        "batch_size": numerics.batch_size,
        "results": [
            {
                "name": f"{rate.name} pictures/s",
                "ours": rate.per_second,
                "peer": None,
                "ratio": None,
                "limit_share": None,
            }
            for rate in found.rates
        ],
        "tokens": found.tokens,
        "pictures_per_second": 1 / found.seconds_per_picture,
        "bottleneck": found.bottleneck,
        "hours_per_million": hours,
        "cost_per_million": None if price_per_hour is None else hours * price_per_hour,
    }


def show_expectations(facts: dict[str, Any]) -> None:
    """Print the facts as a person reads them."""
    console = Console(highlight=False)
    console.print(
        f"{facts['model']} with {facts['encoder']} on {facts['device']}: {facts['dtype']}, "
        f"{facts['threads']} threads, batches of {facts['batch_size']}",
        soft_wrap=True,
    )
    table = Table()
    table.add_column("step")
    table.add_column("pictures a second", justify="right")
    for row in facts["results"]:
        table.add_row(str(row["name"]).split()[0], f"{row['ours']:,.1f}")
    table.add_row("all", f"{facts['pictures_per_second']:,.1f}")
    console.print(table)
    console.print(
        f"the bottleneck is {facts['bottleneck']}; captions had {facts['tokens']:.1f} tokens"
    )
    cost = facts["cost_per_million"]
    price = "" if cost is None else f", at a cost of {cost:,.2f}"
    console.print(f"1,000,000 pictures take {facts['hours_per_million']:,.1f} hours{price}")
