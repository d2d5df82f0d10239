"""The end of a command: a table for people, or one JSON object for machines."""

import json

from rich.console import Console
from rich.table import Table

from flows.summary import Summary


def report(summary: Summary, *, as_json: bool) -> None:
    """Print what came of the command to standard output."""
    if as_json:
        print(json.dumps(summary.to_json(), ensure_ascii=False))  # noqa: T201 - the product
        return
    console = Console(highlight=False)
    _stages(console, summary)
    _failures(console, summary)
    _totals(console, summary)
    for row in summary.samples:
        score = "" if row["clip_sim"] is None else f"  ({row['clip_sim']:.3f})"
        console.print(f"  {row['path'] or row['key']}: {row['caption']}{score}", markup=False)
    for name, value in summary.facts.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        console.print(f"{name}: {shown}", markup=False)
    for output in summary.outputs[-1:]:
        console.print(f"output: {output}", markup=False, soft_wrap=True)


def _stages(console: Console, summary: Summary) -> None:
    table = Table(
        title=f"nightcap {summary.command}: {summary.seconds:.1f} s", title_justify="left"
    )
    for column in ("stage", "shards", "done before", "pictures", "failed", "seconds", "per second"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in summary.stages:
        failed = sum(stage.failures.values())
        figures = [stage.requested, stage.skipped, stage.rows, failed]
        times = [f"{stage.seconds:.1f}", f"{stage.rate:.1f}"] if stage.rows else ["", ""]
        table.add_row(stage.name, *map(str, figures), *times)
    if all(not stage.rows for stage in summary.stages) and summary.ok:
        console.print("nothing to do: every shard is done")
    else:
        console.print(table)


def _failures(console: Console, summary: Summary) -> None:
    for shard, why in summary.failed_shards.items():
        console.print(f"failed: shard {shard}: {why}", markup=False, style="red", soft_wrap=True)
    for stage in summary.stages:
        for shard, why in stage.poor_shards.items():
            show_alarm(console, {"alarm": f"{stage.name} {shard}", "says": why})


def _totals(console: Console, summary: Summary) -> None:
    if not summary.totals:
        return
    totals = summary.totals
    codes = ", ".join(f"{code} {count}" for code, count in totals["failures"].items())
    console.print(
        f"run {summary.run}: {totals['rows']} rows, {totals['captioned']} captioned, "
        f"{totals['failed']} failed{f' ({codes})' if codes else ''}",
        markup=False,
        soft_wrap=True,
    )
    for one in totals.get("alarms", []):
        show_alarm(console, one)


def show_alarm(console: Console, alarm: dict[str, str]) -> None:
    """One alarm, so that nobody overlooks it."""
    says = f"ALARM {alarm['alarm']}: {alarm['says']}"
    console.print(says, markup=False, style="bold red", soft_wrap=True)
