"""C1: whatever decides an output is changed; what was made before is then never taken for the new.

Five changes: decoding, weights, encoder, one byte of an input, the version of the schema.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from proofs.small_run import ONE_THREAD, draw, finish
from proofs.stores import new_root
from storage.captions import run_settings
from storage.layout import open_root
from storage.schema import SCHEMA_VERSION
from storage.urls import folders, join
from tasks.options import CaptionOptions, DecodeOptions, EmbedOptions
from tasks.outstanding import unembedded
from tasks.settings import caption, embed


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Make all five changes, each to a finished root of its own."""
    del count, seed
    found = {name: change(scratch) for name, change in _CHANGES.items()}
    return {"proof": "C1", "ok": all(found.values()), **found}


def _finished(scratch: Path) -> tuple[Path, str]:
    root = new_root("local", scratch)
    source = draw(Path(root).parent / "pictures", 5)
    finish(source, root)
    return source, root


def _spaces(root: str) -> list[str]:
    return folders(join(root, "embeddings"))


def _decoding(scratch: Path) -> bool:
    """Another seed of a drawing decoder is another run, beside the old one."""
    source, root = _finished(scratch)
    drawn = DecodeOptions(name="top-p", samples=2, seed=1)
    finish(source, root, decode=drawn)
    finish(source, root, decode=replace(drawn, seed=2))
    return len(folders(join(root, "captions"))) == 3


def _weights(scratch: Path) -> bool:
    """The same model with other weights finds no run of its own."""
    _, root = _finished(scratch)
    place = open_root(root)
    space = embed.find_embeddings(place, EmbedOptions(encoder="size", compute=ONE_THREAD))
    options = CaptionOptions(model="size", compute=ONE_THREAD)
    request = caption.caption_request(place, options, space) if space else {}
    runs = run_settings(place)
    return bool(runs.find(request)) and not runs.find(request | {"model": "other weights"})


def _encoder(scratch: Path) -> bool:
    """Pictures are embedded again, and captions of a model that reads others are refused."""
    _, root = _finished(scratch)
    place = open_root(root)
    other = EmbedOptions(encoder="nano", compute=ONE_THREAD)
    space = embed.settle_embeddings(place, other, 0)
    if not unembedded(place, space).shards:
        return False
    try:
        caption.settle_run(place, CaptionOptions(model="size", compute=ONE_THREAD), space, 0)
    except ValueError:
        return True
    return False


def _byte(scratch: Path) -> bool:
    """One picture with another byte is one more row, of a new batch."""
    source, root = _finished(scratch)
    path = source / "00000.png"
    Image.new("RGB", (20, 30), (1, 90, 160)).save(path)
    finish(source, root)
    return folders(join(root, "shards")) == ["0000", "0001"]


def _schema(scratch: Path) -> bool:
    """A root of an earlier schema is made again, not read as if it were of this one."""
    source, root = _finished(scratch)
    before = _spaces(root)
    stages: tuple[Any, ...] = (embed, caption)  # each has the version under its own name
    for stage in stages:
        stage.SCHEMA_VERSION = SCHEMA_VERSION + 1
    try:
        finish(source, root)
    finally:
        for stage in stages:
            stage.SCHEMA_VERSION = SCHEMA_VERSION
    return len(_spaces(root)) == len(before) + 1 and len(folders(join(root, "captions"))) == 2


_CHANGES: dict[str, Callable[[Path], bool]] = {
    "decoding": _decoding,
    "weights": _weights,
    "encoder": _encoder,
    "input_byte": _byte,
    "schema_version": _schema,
}
