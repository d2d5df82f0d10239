"""What a run will take on this machine: measured rates, the slowest step, hours and cost."""

import tempfile
from typing import Any

from rich.console import Console
from rich.table import Table

from captioner.benching import Captioning, Embedding, expect
from captioner.devices import Numerics
from captioner.errors import ModelError
from captioner.presets import read_model_config
from storage.layout import open_root
from tasks.options import CaptionOptions, ComputeOptions
from tasks.settings.caption import caption_sources, embedding_for, settle_run
from tasks.settings.common import space_form
from tasks.settings.embed import settle_embeddings
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
    spec = read_model_config(model).encoder
    if not (encoder or spec.name):
        raise ModelError(f"The model {model!r} names no encoder; give one with --encoder.")
    embedding, captioning = stages(CaptionOptions(model=model, encoder=encoder, compute=compute))
    found = expect(embedding, captioning, seconds=seconds)
    seen, written = embedding.numerics, captioning.numerics
    hours = found.hours_per_million
    return {
        "command": "bench",
        "ok": True,
        "model": model,
        "encoder": encoder or spec.name,
        "device": written.device,
        "threads": written.threads,
        "dtype": written.dtype,
        "batch_size": written.batch_size,
        "encoder_dtype": seen.dtype,
        "encoder_batch_size": seen.batch_size,
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


def stages(options: CaptionOptions) -> tuple[Embedding, Captioning]:
    """Both stages of a run with one lane, settled as it settles them, and loaded."""
    with tempfile.TemporaryDirectory() as folder:
        root = open_root(folder)
        pictures = embedding_for(root, options)
        space = settle_embeddings(root, pictures, 1)
        run = settle_run(root, options, space, 1)
        model, scorer = caption_sources(root, options, run)
    form = space_form(space)
    seen, written = (Numerics(**each.resolved["numerics"]) for each in (space, run))
    return (
        Embedding(encoder_in_lane(pictures.encoder, form, seen), seen),
        Captioning(
            captioner_in_lane(model, written),
            encoder_in_lane(scorer, form, written) if scorer else None,
            written,
        ),
    )


def show_expectations(facts: dict[str, Any]) -> None:
    """Print the facts as a person reads them."""
    console = Console(highlight=False)
    console.print(
        f"on {facts['device']} with {facts['threads']} threads: {facts['model']} in "
        f"{facts['dtype']}, {facts['batch_size']} captions at once; {facts['encoder']} in "
        f"{facts['encoder_dtype']}, {facts['encoder_batch_size']} pictures at once",
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
