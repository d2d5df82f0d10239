"""The command that trains."""

from typing import Annotated

import typer

from flows.choices import (
    Device,
    Dtype,
    Embeddings,
    JsonFlag,
    LanesNumber,
    Normalized,
    Offline,
    OutName,
    Recipe,
    RootUrl,
    Seed,
    Steps,
    Threads,
    Timeout,
    compute,
    on_lanes,
)

training = typer.Typer()
LearntEncoder = Annotated[
    str,
    typer.Option(
        "--encoder",
        help="Whose embeddings to learn from: nano, NAME[/PRETRAINED] or a folder; "
        "by default the recipe's.",
    ),
]
LearntFeature = Annotated[
    str, typer.Option("--feature", help="projected or pooled; by default the recipe's.")
]
Language = Annotated[
    str,
    typer.Option(
        "--lm", help="Language model in place of the recipe's: nano, a folder or a hub id."
    ),
]
Faithful = Annotated[
    bool,
    typer.Option("--faithful", help="Train as the recipe's original did, flaws included."),
]
RecipeSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A setting of the recipe, such as learning_rate=1e-4; repeatable.",
    ),
]


@training.command()
def train(
    root: RootUrl,
    recipe: Recipe = "nano",
    out: OutName = "model",
    steps: Steps = None,
    seed: Seed = 0,
    encoder: LearntEncoder = "",
    feature: LearntFeature = "",
    normalized: Normalized = None,
    embeddings: Embeddings = "",
    language: Language = "",
    faithful: Faithful = False,
    settings: RecipeSettings = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    lanes: LanesNumber = 1,
    timeout: Timeout = 86_400.0,
    offline: Offline = False,
    as_json: JsonFlag = False,
) -> None:
    """Train a captioner on the embeddings and captions under ROOT; it goes on where it was cut.

    Recipes: nano and nano-scratch for small collections; clipcap, clipcap-transformer and
    clipcap-conceptual; clipxgpt-small, -large and -giant. Each names an encoder and a language
    model, which --encoder and --lm replace; embed with the same encoder and feature first.
    """
    from flows.commands import finish, train_command
    from tasks.options import TrainOptions
    from tasks.settings.train import learnt_embeddings

    options = TrainOptions(
        recipe=recipe,
        out=out,
        steps=steps,
        seed=seed,
        language=language,
        faithful=faithful,
        settings=tuple(settings or ()),
        embeddings=embeddings,
        encoder=encoder,
        compute=compute(device, dtype, None, threads, offline=offline),
    )
    made = learnt_embeddings(options, feature, normalized)
    summary = train_command(root, options, made, on_lanes(lanes, timeout))
    finish(summary, as_json=as_json)
