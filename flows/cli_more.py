"""The commands that look and show: demo, status, doctor, models."""

import json
from typing import Annotated

import typer

from flows.choices import JsonFlag, LanesNumber, RootUrl, on_lanes

more = typer.Typer()


@more.command()
def demo(
    out: Annotated[str, typer.Argument(help="Folder for pictures and results.")] = "nightcap-demo",
    pictures: Annotated[int, typer.Option(min=10, help="Scenes to draw and learn from.")] = 3000,
    unseen: Annotated[int, typer.Option(min=1, help="Unseen scenes to be judged by.")] = 500,
    recipe: Annotated[str, typer.Option(help="nano goes on from the shipped model.")] = "nano",
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other scenes.")] = 1,
    lanes: LanesNumber = 1,
    as_json: JsonFlag = False,
) -> None:
    """Draw pictures, shard, embed, train, caption and score them: the main job, no network."""
    from flows.commands import demo_command, finish
    from tasks.options import TrainOptions
    from tasks.units.draw import Drawing

    drawing = Drawing(seen=pictures, unseen=unseen, seed=seed)
    training = TrainOptions(recipe=recipe, out="demo", steps=steps)
    summary = demo_command(out, drawing, training, on_lanes(lanes, 3600.0))
    finish(summary, as_json=as_json)


@more.command()
def status(root: RootUrl, as_json: JsonFlag = False) -> None:
    """Show what ROOT holds: for each stage and run, shards done, missing and stale."""
    from flows.status import show_status
    from flows.status import status as facts_of

    facts = facts_of(root)
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        show_status(facts)


@more.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Say what this machine can do, and what is wrong with it."""
    from flows.doctor import examine, show, to_json

    findings = examine()
    if as_json:
        typer.echo(json.dumps(to_json(findings)))
    else:
        show(findings)
    if any(finding.mend for finding in findings):
        raise SystemExit(1)


@more.command()
def models(
    root: Annotated[str, typer.Argument(help="Also list the models trained under this root.")] = "",
    sizes: Annotated[
        bool, typer.Option("--sizes", help="Count the parameters of the published models.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the models, recipes and encoders that go by a name."""
    from captioner.architectures import ARCHITECTURES
    from captioner.encoders import open_clip_names
    from captioner.presets import PRESETS
    from captioner.recipes import RECIPES
    from storage.layout import open_root
    from storage.models import trained_models

    trained = [str(model) for model in trained_models(open_root(root))] if root else []
    facts = {
        "command": "models",
        "ok": True,
        "presets": {name: preset.about for name, preset in PRESETS.items()},
        "recipes": {name: recipe.about for name, recipe in RECIPES.items()},
        "architectures": {name: design.about for name, design in ARCHITECTURES.items()},
        "trained": trained,
        "encoders": ["nano", *open_clip_names()],
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for title, about in (("preset", facts["presets"]), ("recipe", facts["recipes"])):
        for name, line in dict(about).items():  # type: ignore[call-overload]
            typer.echo(f"{title}  {name:<20} {line}")
    for model in trained:
        typer.echo(f"trained {model}")
    if sizes:
        _show_sizes()
    typer.echo(
        f"encoders: nano, or {len(open_clip_names())} names of open_clip (--json lists them)"
    )


def _show_sizes() -> None:
    """Parameters of every architecture, in millions; nothing is downloaded for it."""
    from captioner.architectures import ARCHITECTURES
    from captioner.counting import count_parameters

    for name, design in ARCHITECTURES.items():
        found = count_parameters(design)
        parts = (found.tower, found.mapper, found.language)
        tower, mapper, language = (f"{part / 1e6:.1f}" for part in parts)
        typer.echo(
            f"size    {name:<24} {found.whole / 1e6:7.1f} M parameters: image tower {tower}, "
            f"mapper {mapper}, language model {language}"
        )
