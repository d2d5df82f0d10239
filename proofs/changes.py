"""C1: whatever decides an output is changed; what was made before is then never taken for the new.

Five changes: decoding, weights, encoder, one byte of an input, the version of the schema.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from captioner.presets import NANO_MODEL
from proofs.forks import Fork
from proofs.small_run import ONE_THREAD, caption_all, draw, embed_all, finish
from proofs.stores import contents, new_root
from storage.layout import open_root
from storage.schema import SCHEMA_VERSION
from storage.urls import folders, join
from tasks.options import CaptionOptions, DecodeOptions, EmbedOptions
from tasks.outstanding import unembedded
from tasks.settings import caption, embed

_REFUSALS = ("captioner.errors.ModelError", "storage.errors.ConfigurationError")


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
    """After a byte of either weights file is another, a run is begun anew, beside the old ones."""
    source, root = _finished(scratch)
    model = Path(shutil.copytree(NANO_MODEL, Path(root).parent / "model"))
    work = partial(_caption_with, source, root, model)
    runs = len(folders(join(root, "captions")))
    for weights in (None, *sorted(model.rglob("*.safetensors"))):
        if weights:
            _change_a_number(weights)
        before, runs = contents(root), runs + 1
        ended = Fork(work).wait()  # a command of its own: nothing is in memory yet
        if weights and ended.error.startswith(_REFUSALS):
            runs -= 1
        elif ended.error or len(folders(join(root, "captions"))) != runs:
            return False
        if not before.items() <= contents(root).items():
            return False
    return True


def _caption_with(source: Path, root: str, model: Path) -> None:
    place = open_root(root)
    space = embed_all(place, source, 3, "nano")
    caption_all(place, space, CaptionOptions(model=str(model), compute=ONE_THREAD))


def _change_a_number(weights: Path) -> None:
    """The lowest bit of the first number; size and header stay."""
    data = bytearray(weights.read_bytes())
    data[8 + int.from_bytes(data[:8], "little")] ^= 1
    weights.write_bytes(data)


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
