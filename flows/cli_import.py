"""The commands that read other projects' files: import, import-embeddings."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.choices import JsonFlag, Offline

imports = typer.Typer()


@imports.command("import")
def import_(
    checkpoint: Annotated[
        str, typer.Argument(help="A checkpoint file, or hf://OWNER/REPOSITORY/PATH[@REVISION].")
    ],
    model_dir: Annotated[str, typer.Argument(help="Folder for the model, absent or empty.")],
    lm: Annotated[
        str, typer.Option("--lm", help="The GPT-2 it was made with: a hub id or a folder.")
    ] = "",
    encoder: Annotated[
        str, typer.Option(help="The image encoder: an open_clip NAME/PRETRAINED, or a folder.")
    ] = "",
    normalized: Annotated[
        bool | None,
        typer.Option(
            "--normalized/--not-normalized",
            help="Whether embeddings have length 1; by default as the family's were.",
        ),
    ] = None,
    offline: Offline = False,
    as_json: JsonFlag = False,
) -> None:
    """Turn a checkpoint of ClipCap or CLIPxGPT into a model directory; nothing in it is run."""
    from captioner.importing.convert import ImportOptions, import_checkpoint

    options = ImportOptions(lm=lm, encoder=encoder, normalized=normalized, offline=offline)
    done = import_checkpoint(checkpoint, Path(model_dir), options)
    spec = done.config.encoder
    facts = {
        "command": "import",
        "ok": True,
        "model": model_dir,
        "family": done.family,
        "encoder": spec.name,
        "suggested_encoder": done.suggested_encoder,
        "feature": spec.feature,
        "dim": spec.dim,
        "normalized": spec.normalized,
        "assumed_normalized": normalized is None,
        "decoding": done.config.decoding.to_json(),
        **{name: done.notes[name] for name in ("language_model", "set_aside", "left_out")},
    }
    _show(facts, as_json=as_json)


@imports.command("import-embeddings")
def import_embeddings(
    file: Annotated[str, typer.Argument(help="A .pkl that ClipCap's parse scripts wrote.")],
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where to, absent or empty.")],
    as_json: JsonFlag = False,
) -> None:
    """Turn ClipCap's pickled embeddings into clip-retrieval's layout; nothing in them is run."""
    from tasks.embeddings_import import import_embeddings as convert

    done = convert(Path(file), folder)
    if as_json:
        facts = {"command": "import-embeddings", "ok": True, "outputs": [folder], **asdict(done)}
        typer.echo(json.dumps(facts))
        return
    typer.echo(
        f"{folder}: {done.pictures} pictures with {done.captions} captions, embeddings "
        f"{done.dim} wide in {done.dtype}"
    )


def _show(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"{facts['model']}: {facts['family']}, beside {facts['language_model']['name']}")
    length = "of length 1" if facts["normalized"] else "of any length"
    change = "--not-normalized" if facts["normalized"] else "--normalized"
    assumed = f" (assumed; {change} changes it)" if facts["assumed_normalized"] else ""
    typer.echo(f"reads {facts['feature']} embeddings, {facts['dim']} wide, {length}{assumed}")
    if facts["encoder"]:
        typer.echo(f"encoder: {facts['encoder']}")
    elif facts["suggested_encoder"]:
        typer.echo(
            "encoder: not named, so only stored embeddings can be captioned; the published "
            f"checkpoints of this width go with --encoder {facts['suggested_encoder']}"
        )
    for what, number in facts["set_aside"].items():
        typer.echo(f"set aside: {number} tensors, {what}")
    if facts["left_out"]:
        typer.echo(f"left out: {', '.join(facts['left_out'])}")
