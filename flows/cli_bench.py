"""The bench command: what to expect on this machine, or the whole comparison with other tools."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.choices import (
    Device,
    Dtype,
    JsonFlag,
    Model,
    ModelEncoder,
    Offline,
    Pictures,
    Threads,
    compute,
)

benching = typer.Typer()
_HOME = Path(__file__).parent.parent
"""Where the source tree lies, if this is one."""


@benching.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Benchmarks to run; all by default.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only what to expect here, in about a minute.")
    ] = False,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0.0, help="Of this machine, in any currency: gives cost.")
    ] = None,
    model: Model = "nano",
    encoder: ModelEncoder = "",
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Measure each step of --quick for so long.")
    ] = 8.0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: Pictures = None,
    threads: Threads = None,
    offline: Offline = False,
    as_json: JsonFlag = False,
) -> None:
    """Say how fast captions will come on this machine; without --quick compare with other tools."""
    if not quick:
        command = comparison(_HOME, names or [], as_json=as_json)
        if code := subprocess.run(command, cwd=_HOME, check=False).returncode:
            raise SystemExit(code)
        return
    from flows.expectations import expectations, show_expectations

    chosen = compute(device, dtype, batch_size, threads, offline=offline)
    facts = expectations(model, encoder, chosen, seconds=seconds, price_per_hour=price_per_hour)
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        show_expectations(facts)


def comparison(home: Path, names: list[str], *, as_json: bool) -> list[str]:
    """The command that compares, in the source tree `home`.

    Raises ConfigurationError where there is none: an installed package has no benchmarks.
    """
    from storage.errors import ConfigurationError

    if not (home / "benchmarks" / "__main__.py").exists():
        raise ConfigurationError(
            "The comparison with other tools is part of the source tree, not of the installed "
            "package: run `make bench` there, or `nightcap bench --quick` here."
        )
    return [sys.executable, "-m", "benchmarks", *names, *(["--json"] if as_json else [])]
