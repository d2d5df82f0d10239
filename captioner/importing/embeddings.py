"""Reads the pickled embeddings of ClipCap's parse scripts, without running what a pickle asks for.

Such a file is `{"clip_embedding": Tensor, "captions": [{"image_id", "caption", "clip_embedding":
row}, ...]}`, one caption an entry. A pickle calls functions by name; only those that make a tensor
from its bytes are known here, and those bytes are read as weights alone.

Shapes:  N rows   C embedding
"""

import io
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch._utils import _rebuild_tensor_v2

from captioner.errors import ModelError
from captioner.importing.checkpoints import DAMAGE, load_tensors

_REBUILD: Any = _rebuild_tensor_v2  # not annotated


@dataclass(frozen=True, slots=True)
class Described:
    """One picture: where its embedding is, and what was said of it."""

    key: str
    row: int
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClipcapEmbeddings:
    """The embeddings in one file, a picture each, in the order of their first captions."""

    image_NC: npt.NDArray[np.floating]
    """float16 or float32, as found."""
    pictures: list[Described]

    def parts(self, rows: int) -> Iterator[tuple[npt.NDArray[np.floating], list[Described]]]:
        """The embeddings and descriptions of at most `rows` pictures after another."""
        for start in range(0, len(self.pictures), rows):
            chosen = self.pictures[start : start + rows]
            yield self.image_NC[[picture.row for picture in chosen]], chosen


def read_embeddings(path: Path) -> ClipcapEmbeddings:
    """The embeddings in `path`; raises ModelError for a file that is none, cut, or holds code."""
    content = _content(path)
    image_NC, captions = _halves(content, path)
    rows: dict[str, int] = {}
    said: dict[str, list[str]] = {}
    for number, entry in enumerate(captions):
        key, row, caption = _entry(entry, number, len(image_NC), path)
        first = rows.setdefault(key, row)
        if row != first and not np.array_equal(image_NC[row], image_NC[first], equal_nan=True):
            raise ModelError(f"{path.name!r} gives the picture {key!r} two different embeddings.")
        said.setdefault(key, []).append(caption)
    pictures = [Described(key, row, tuple(said[key])) for key, row in rows.items()]
    return ClipcapEmbeddings(image_NC, pictures)


class _Careful(pickle.Unpickler):
    """Knows the few names that a tensor needs, and refuses every other."""

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is None:
            raise _Refused(f"it asks for {module}.{name}, and code in a pickle is never run")
        return known


class _Refused(pickle.UnpicklingError):
    """A name that is not known."""


def _storage(data: bytes) -> Any:
    """The numbers of a tensor; torch's own reader of these would unpickle them without care."""
    storage = load_tensors(io.BytesIO(data))
    if not isinstance(storage, torch.TypedStorage):
        raise pickle.UnpicklingError("what should be numbers is something else")
    return storage


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Any:
    """What `_rebuild_tensor_v2` gives, without gradients and hooks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch on its own old formats
        return _REBUILD(storage, offset, size, stride, False, OrderedDict())


_KNOWN: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("collections", "OrderedDict"): OrderedDict,
}


def _content(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _Careful(file).load()
    except FileNotFoundError as error:
        raise ModelError(f"There is no file {str(path)!r}.") from error
    except _Refused as error:
        raise ModelError(f"{path.name!r} cannot be read: {error}.") from error
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(
            f"{path.name!r} is cut, damaged or no pickle ({type(error).__name__}: {reason})."
        ) from error


def _halves(content: Any, path: Path) -> tuple[npt.NDArray[np.floating], list[Any]]:
    embeddings = content.get("clip_embedding") if isinstance(content, dict) else None
    captions = content.get("captions") if isinstance(content, dict) else None
    if not isinstance(embeddings, Tensor) or not isinstance(captions, list) or not captions:
        raise ModelError(
            f"{path.name!r} holds no embeddings of ClipCap: a tensor 'clip_embedding' and a list "
            "'captions'."
        )
    if embeddings.ndim != 2 or embeddings.dtype not in (torch.float16, torch.float32):
        raise ModelError(
            f"The embeddings in {path.name!r} are {embeddings.dtype} of shape "
            f"{tuple(embeddings.shape)}, not float16 or float32 of shape (rows, width)."
        )
    return embeddings.detach().contiguous().numpy(), captions


def _entry(entry: Any, number: int, rows: int, path: Path) -> tuple[str, int, str]:
    """Key, row and caption of one entry of `captions`."""
    told = entry if isinstance(entry, dict) else {}
    row, caption = told.get("clip_embedding"), told.get("caption")
    if not isinstance(caption, str) or not isinstance(row, int) or not 0 <= row < rows:
        raise ModelError(
            f"Entry {number} of 'captions' in {path.name!r} has no caption, or no row among the "
            f"{rows} embeddings."
        )
    return str(told.get("image_id", row)), row, caption
