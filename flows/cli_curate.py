"""The commands that choose rows: curate, duplicates."""

import json
import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from flows.choices import JsonFlag, RootUrl

if TYPE_CHECKING:
    from storage.curate import Curation
    from storage.duplicates import Found

curating = typer.Typer()

Run = Annotated[str, typer.Option(help="Which run; may be left out where there is only one.")]
Out = Annotated[str, typer.Option(help="Folder of the outcome, absent or empty.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count only, write nothing.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads; by default all cores.")]


@curating.command()
def curate(
    root: Annotated[str, typer.Argument(metavar="ROOT", help="Where the run lies.")] = "",
    run: Run = "",
    recipe: Annotated[str, typer.Option(help="A name that --list shows, or a YAML file.")] = "",
    out: Out = "",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="text=orig_caption, scorer=NAME, or RULE.KEY=VALUE such as score.min=0.28; "
            "repeatable.",
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the recipes and columns.")] = False,
    dry_run: DryRun = False,
    threads: Workers = None,
    as_json: JsonFlag = False,
) -> None:
    """Choose rows of a run by a recipe: ids, a reason for every other row, and a waterfall."""
    if listed:
        _list(as_json=as_json)
        return
    if not root or not recipe:
        raise typer.BadParameter("give ROOT and --recipe NAME, or --list")
    from storage.curate import CurateOptions
    from storage.curate import curate as choose
    from storage.curate_recipe import load_recipe

    began = time.perf_counter()
    chosen = load_recipe(recipe, tuple(changes or ()))
    options = CurateOptions(run=run, out=out, dry_run=dry_run, threads=threads or _cores())
    done = choose(root, chosen, options)
    if as_json:
        _say_curation(root, done, time.perf_counter() - began)
        return
    _show_curation(done)


@curating.command()
def duplicates(
    root: RootUrl,
    run: Run = "",
    space: Annotated[
        str, typer.Option(help="Embeddings to look at instead of a run: their name, or encoder.")
    ] = "",
    by: Annotated[
        str,
        typer.Option(help="Any of sha256, phash, embedding, phash+embedding (both agree)."),
    ] = "sha256,phash+embedding",
    distance: Annotated[
        int | None, typer.Option(help="Bits by which hashes may differ: 4, or 8 if confirmed.")
    ] = None,
    cosine: Annotated[
        float | None, typer.Option(help="Cosine of embeddings: 0.97, or 0.9 if it confirms.")
    ] = None,
    against: Annotated[
        str, typer.Option(help="A held-out set to look for: a root, or a folder of Parquet.")
    ] = "",
    out: Out = "",
    dry_run: DryRun = False,
    threads: Workers = None,
    as_json: JsonFlag = False,
) -> None:
    """Group rows that show one picture, and flag those that a held-out set has too."""
    from storage.duplicate_methods import Methods
    from storage.duplicates import DuplicateOptions, find_duplicates

    began = time.perf_counter()
    kinds = tuple(part.strip() for part in by.split(",") if part.strip())
    methods = Methods(by=kinds, distance=distance, cosine=cosine, against=against)
    options = DuplicateOptions(
        run=run, space=space, out=out, dry_run=dry_run, threads=threads or _cores()
    )
    found = find_duplicates(root, methods, options)
    if as_json:
        _say_duplicates(root, found, time.perf_counter() - began)
        return
    typer.echo(
        f"{found.rows} rows of {found.among}: {found.groups} groups of duplicates, "
        f"{found.spare} rows beyond the best of each"
    )
    if against:
        typer.echo(f"{found.against} rows match {against}")
    for output in found.outputs:
        typer.echo(f"output: {output}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _list(*, as_json: bool) -> None:
    from storage.curate_columns import COLUMNS
    from storage.curate_recipe import shipped_recipes

    recipes = shipped_recipes()
    if as_json:
        facts = {
            "command": "curate",
            "ok": True,
            "recipes": {
                name: {"about": one.about, "source": one.source, "deviations": one.deviations}
                for name, one in recipes.items()
            },
            "columns": {name: column.about for name, column in COLUMNS.items()},
        }
        typer.echo(json.dumps(facts))
        return
    for name, one in recipes.items():
        typer.echo(f"recipe  {name}\n        {one.about}\n        from {one.source}")
        for sentence in one.deviations:
            typer.echo(f"        - {sentence}")
    for name, column in COLUMNS.items():
        typer.echo(f"column  {name:<18} {column.about}")


def _say_curation(root: str, done: "Curation", seconds: float) -> None:
    facts = {
        "command": "curate",
        "ok": True,
        "root": root,
        "run": done.run,
        "seconds": round(seconds, 3),
        "rows": done.rows,
        "kept": done.kept,
        "recipe": done.recipe.name,
        "waterfall": [fall.facts() for fall in done.waterfall],
        "outputs": done.outputs,
    }
    typer.echo(json.dumps(facts))


def _say_duplicates(root: str, found: "Found", seconds: float) -> None:
    facts = {
        "command": "duplicates",
        "ok": True,
        "root": root,
        "among": found.among,
        "seconds": round(seconds, 3),
        "rows": found.rows,
        "groups": found.groups,
        "spare": found.spare,
        "against": found.against,
        "outputs": found.outputs,
    }
    typer.echo(json.dumps(facts))


def _show_curation(done: "Curation") -> None:
    """The waterfall as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{done.recipe.name} on {done.run}", title_justify="left")
    table.add_column("rule", overflow="fold")
    for title in ("in", "removed", "alone", "left"):
        table.add_column(title, justify="right")
    for fall in done.waterfall:
        border = f", from {fall.border:.4g}" if fall.border is not None else ""
        counts = (fall.came, fall.removed, fall.removed_alone, fall.left)
        table.add_row(f"{fall.name}: {fall.rule}{border}", *map(str, counts))
    Console().print(table)
    share = done.kept / done.rows if done.rows else 0.0
    typer.echo(f"{done.kept} of {done.rows} rows kept ({share:.1%})")
    for output in done.outputs:
        typer.echo(f"output: {output}")
