"""The commands by which people look through a run: review, apply-edits."""

import json
from typing import Annotated

import typer

from flows.choices import JsonFlag, RootUrl

reviewing = typer.Typer()

Run = Annotated[str, typer.Option(help="Which run; may be left out where there is only one.")]


@reviewing.command()
def review(
    root: RootUrl,
    run: Run = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8765,
    reviewer: Annotated[str, typer.Option(help="Your name; by default your login.")] = "",
    ids: Annotated[str, typer.Option(help="Only the rows of this ids.parquet of curate.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Look through a run's pictures and captions in the browser: accept, reject, edit, undo."""
    from flows.review import ReviewOptions, serve_review

    options = ReviewOptions(run=run, port=port, reviewer=reviewer, ids=ids, as_json=as_json)
    serve_review(root, options)


@reviewing.command(name="apply-edits")
def apply_edits_command(root: RootUrl, run: Run = "", as_json: JsonFlag = False) -> None:
    """Make the run what its reviewers decided; every decision can still be taken back."""
    from storage.edits_apply import apply_edits

    done = apply_edits(root, run)
    if as_json:
        facts = {
            "command": "apply-edits",
            "ok": True,
            "root": root,
            "run": done.run,
            "decisions": done.decisions,
            "changed": done.changed,
            "shards": done.shards,
            "without_row": done.strangers,
        }
        typer.echo(json.dumps(facts))
        return
    told = ", ".join(f"{count} {action}" for action, count in done.decisions.items()) or "none"
    typer.echo(
        f"run {done.run}: decisions {told}; {done.changed} rows differ from what the model wrote, "
        f"{len(done.shards)} shards written anew"
    )
    if done.strangers:
        typer.echo(f"{done.strangers} decisions are about rows that the run does not have (kept)")
    if not done.sealed:
        typer.echo("the run is not finished: nightcap caption sums it up once it is")
