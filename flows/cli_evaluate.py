"""The commands that judge a run: check scores it again, evaluate compares it with references."""

import json
import time
from typing import Annotated, Any

import typer

from flows.choices import JsonFlag, RootUrl

judging = typer.Typer()

Run = Annotated[str, typer.Option("--run", help="Which run; may be left out if there is one.")]
ScorerFolder = Annotated[
    str, typer.Option("--encoder", help="Folder of the scoring encoder, if it is a local one.")
]


@judging.command()
def check(
    root: RootUrl,
    run: Run = "",
    rows: Annotated[int, typer.Option(min=1, help="Captions to score again.")] = 1000,
    tolerance: Annotated[float, typer.Option(min=0, help="How far a cosine may be off.")] = 1e-3,
    encoder: ScorerFolder = "",
    model: Annotated[
        str, typer.Option("--model", help="Folder of the model, if it is a local one.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Score captions again from their pictures: rows that were shifted or swapped give an alarm."""
    from tasks.checking import CheckOptions
    from tasks.checking import check as judge

    options = CheckOptions(run=run, rows=rows, tolerance=tolerance, encoder=encoder, model=model)
    facts = judge(root, options)
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _show_check(facts)
    if facts["alarms"]:
        raise SystemExit(1)


@judging.command()
def evaluate(
    root: RootUrl,
    run: Run = "",
    references: Annotated[
        str, typer.Option(help="File of captions by id; by default what pictures came with.")
    ] = "",
    against: Annotated[str, typer.Option(help="Another run, compared on the same pictures.")] = "",
    rows: Annotated[int, typer.Option(min=1, help="Captions to judge at most.")] = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="Draws other resamples.")] = 0,
    encoder: ScorerFolder = "",
    as_json: JsonFlag = False,
) -> None:
    """Judge captions by references: BLEU, ROUGE-L, CIDEr-D, CLIPScore, with 95 % intervals."""
    from tasks.evaluating import EvaluateOptions
    from tasks.evaluating import evaluate as judge

    began = time.perf_counter()
    options = EvaluateOptions(
        run=run,
        references=references,
        against=against,
        rows=rows,
        seed=seed,
        encoder=encoder,
    )
    facts = judge(root, options)
    facts["seconds"] = round(time.perf_counter() - began, 3)
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _show_metrics(facts)


def _show_metrics(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    by = f" (matched by {facts['matched_by']})" if "matched_by" in facts else ""
    left = facts.get("references_without_row")
    console.print(
        f"run {facts['run']}: {facts['evaluated']} captions judged by {facts['references']}{by}; "
        f"{facts['rows']} rows, {facts['without_references']} without references, "
        f"{facts['failed']} failed{f', {left} references without a row' if left else ''}",
        markup=False,
        soft_wrap=True,
    )
    against = facts.get("against", {})
    table = Table(box=None)
    for column in ("measure", facts["run"], *([against["run"], "difference"] if against else [])):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for name, one in facts["metrics"].items():
        cells = [name, _bounded(one)]
        if against:
            cells += [_bounded(against[part].get(name)) for part in ("metrics", "difference")]
        table.add_row(*cells)
    console.print(table)


def _bounded(one: dict[str, float] | None) -> str:
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" if one else ""


def _show_check(facts: dict[str, Any]) -> None:
    from rich.console import Console

    from flows.report import show_alarm

    console = Console(highlight=False)
    console.print(
        f"run {facts['run']}: {facts['rows']} captions of {facts['shards']} shards scored again, "
        f"{facts['off']} off, the worst by {facts['worst']:.2g}",
        markup=False,
        soft_wrap=True,
    )
    for name in ("margin", "margin_effect", "blank_share"):
        shown = "not known" if facts[name] is None else f"{facts[name]:.4f}"
        console.print(f"{name}: {shown}", markup=False)
    for one in facts["examples"]:
        console.print(
            f"off: {one['shard']} {one['key']}: {one['written']:.4f} is written, "
            f"{one['now']:.4f} found",
            markup=False,
            soft_wrap=True,
        )
    for alarm in facts["alarms"]:
        show_alarm(console, alarm)
