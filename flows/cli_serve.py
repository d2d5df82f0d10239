"""The command that stays: one box that runs the nightly job by itself, without a work pool."""

import json
from typing import Annotated, Any

import typer

from flows.choices import (
    Device,
    Dtype,
    JsonFlag,
    LanesNumber,
    MaxFailed,
    Model,
    Offline,
    RootUrl,
    SamplesPerShard,
    Source,
    Threads,
    Timeout,
    compute,
    ingest_options,
    on_lanes,
    table_options,
)
from storage.errors import ConfigurationError

Name = Annotated[str, typer.Option(help="Name of the deployment that the server shows.")]
Cron = Annotated[str, typer.Option(help="When to run, as five fields of cron.")]
Zone = Annotated[str, typer.Option("--timezone", help="Whose clock that is: an IANA name.")]

serving = typer.Typer()


@serving.command()
def serve(
    source: Source,
    root: RootUrl,
    model: Model = "nano",
    cron: Cron = "0 2 * * *",
    timezone: Zone = "UTC",
    name: Name = "served",
    samples_per_shard: SamplesPerShard = 10_000,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    lanes: LanesNumber = 1,
    timeout: Timeout = 3600.0,
    max_failed_shards: MaxFailed = 0,
    offline: Offline = False,
    as_json: JsonFlag = False,
) -> None:
    """Run the nightly job by schedule on this machine, until interrupted: no pool, no worker.

    It needs a Prefect server that lasts: `prefect server start`, and PREFECT_API_URL. With --json
    the object is printed when the schedule stands.
    """
    from tasks.options import CaptionOptions

    schedule = _schedule(cron, timezone)
    _check_server()
    parameters = {
        "source": source,
        "root": root,
        "captions": CaptionOptions(
            model=model, compute=compute(device, dtype, None, threads, offline=offline)
        ),
        "ingest": ingest_options("", samples_per_shard, None, table_options("", "", None, "")),
        "lanes": on_lanes(lanes, timeout, max_failed_shards),
    }
    facts = {"command": "serve", "ok": True, "root": root, "deployment": f"nightly/{name}"}
    if as_json:
        typer.echo(json.dumps({**facts, "cron": cron, "timezone": timezone}))
    else:
        typer.echo(f"nightly/{name}: {cron} in {timezone}, until interrupted", err=True)
    _stay(name, schedule, parameters)


def _schedule(cron: str, timezone: str) -> Any:
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.schedules import Cron as CronOf

    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValueError as error:
        raise ConfigurationError(
            f"--cron {cron!r} in --timezone {timezone!r} is no schedule: "
            "give five fields of cron and an IANA zone such as Europe/Berlin"
        ) from error
    return CronOf(cron, timezone=timezone, slug="served")


def _check_server() -> None:
    from prefect.settings import get_current_settings

    if not get_current_settings().api.url:
        raise ConfigurationError(
            "serve needs a Prefect server that lasts: run prefect server start, "
            "and set PREFECT_API_URL to its address"
        )


def _stay(name: str, schedule: Any, parameters: dict[str, Any]) -> None:
    """Hold the schedule until the process is interrupted; it goes on where it is started again."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.types.entrypoint import EntrypointType

    from flows.nightly import nightly

    nightly.serve(
        name=name,
        schedule=schedule,
        parameters=parameters,
        global_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        pause_on_shutdown=False,
        print_starting_message=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
