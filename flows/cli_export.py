"""The commands that hand a run on: export it to other tools, report on it for people."""

import json
import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from flows.choices import JsonFlag, RootUrl

if TYPE_CHECKING:
    from storage.export import Exported

handing_on = typer.Typer()

Run = Annotated[str, typer.Option(help="Which run; may be left out where there is only one.")]


@handing_on.command()
def export(
    root: RootUrl,
    out: Annotated[str, typer.Argument(metavar="OUT", help="A new or empty folder, or a URL.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="txt, sidecars (a caption a line), kohya, imagefolder, webdataset, parquet.",
        ),
    ],
    run: Run = "",
    ids: Annotated[str, typer.Option(help="The ids.parquet of a curation; else every row.")] = "",
    pictures: Annotated[
        bool | None,
        typer.Option("--pictures/--no-pictures", help="By default where the format needs them."),
    ] = None,
    names: Annotated[
        str, typer.Option(help="Call files by path (default) or by key: <batch>/<stem>/<key>.")
    ] = "",
    samples_per_tar: Annotated[int, typer.Option(min=1, help="Pictures in one new tar.")] = 10_000,
    max_mb: Annotated[int, typer.Option(min=1, help="Megabytes of one Parquet file.")] = 500,
    license_id: Annotated[
        str, typer.Option("--license", help="For the dataset card: an id that the hub knows.")
    ] = "unknown",
    title: Annotated[str, typer.Option(help="For the dataset card.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Write a run, or the rows that a curation chose, in the form that another tool reads."""
    from flows.progress import Display, stage_begins, stage_ends
    from storage.export import ExportOptions
    from storage.export import export as write
    from tasks.progress import tick

    began = time.perf_counter()
    options = ExportOptions(
        to=to,
        run=run,
        ids=ids,
        pictures=pictures,
        names=names,
        samples_per_tar=samples_per_tar,
        max_bytes=max_mb * 1_000_000,
        license=license_id,
        title=title,
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2,
    )
    with Display():
        done = write(
            root,
            out,
            options,
            begin=lambda rows, shards: stage_begins("export", rows, shards),
            tell=lambda rows: tick("export", rows),
        )
        stage_ends("export")
    _say(root, to, done, time.perf_counter() - began, as_json=as_json)
    if done.failed_shards:
        raise SystemExit(1)


@handing_on.command()
def report(
    root: RootUrl,
    run: Run = "",
    out: Annotated[str, typer.Option(help="A file; by default report.html beside the run.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Write a page about a run: rows to look at, distributions, alarms, speeds, configuration."""
    from tasks.reporting import write_report

    began = time.perf_counter()
    url = write_report(root, run, out)
    if as_json:
        seconds = round(time.perf_counter() - began, 3)
        facts = {"command": "report", "ok": True, "root": root, "seconds": seconds}
        typer.echo(json.dumps(facts | {"outputs": [url]}, ensure_ascii=False))
    else:
        typer.echo(f"output: {url}")


def _say(root: str, to: str, done: "Exported", seconds: float, *, as_json: bool) -> None:
    counts = done.counts
    facts = {
        "command": "export",
        "ok": not done.failed_shards,
        "root": root,
        "run": done.run,
        "to": to,
        "seconds": round(seconds, 3),
        "rows": counts.rows,
        "chosen": counts.chosen,
        "written": done.written,
        "without_caption": counts.failed,
        "empty": done.empty,
        "renamed": counts.renamed,
        "unknown_ids": counts.unknown,
        "failed_shards": done.failed_shards,
        "outputs": done.outputs,
    }
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    typer.echo(f"run {done.run}: {done.written} of {counts.rows} rows exported to {to}")
    notes = {
        "without a caption, left out": counts.failed,
        "with an empty caption, left out": done.empty,
        "renamed, because another has their name": counts.renamed,
        "ids that name no row": counts.unknown,
    }
    for note, count in notes.items():
        if count:
            typer.echo(f"{count} {note}")
    for shard, why in done.failed_shards.items():
        typer.echo(f"failed: shard {shard}: {why}")
    for output in done.outputs[-1:]:
        typer.echo(f"output: {output}")
