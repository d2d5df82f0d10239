"""Reads a checkpoint file into named tensors: safetensors, or what torch.save wrote, weights only.

Nothing in a file is ever run: a pickle that asks for anything but tensors and plain containers is
refused, and the sentence names what it asked for.
"""

import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from captioner.errors import ModelError

WRAPPERS = ("model_state_dict", "state_dict", "model")
"""Where training scripts put the weights beside their own state."""
_AROUND = ("module.", "_orig_mod.", "model.")
"""What wrapping a network puts before every key: DataParallel, torch.compile, Lightning."""
_ZIP = b"PK\x03\x04"
_ASKED_FOR = re.compile(r"(?:unsupported )?(?:GLOBAL|global:?) (?:GLOBAL )?([\w.]+)")
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    UnpicklingError,
    ValueError,
    struct.error,
)
"""What a cut or altered file was seen to raise in torch and safetensors."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights in one file."""

    tensors: dict[str, Tensor]
    """By name, without what wrapping a network puts before all of them."""
    left_out: tuple[str, ...]
    """What else lay in the file, such as an optimiser's state."""


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights in `path`; raises ModelError for a file that is none, cut, or holds code."""
    state, left_out = _unwrapped(_content(path), path)
    odd = [str(key) for key, value in state.items() if not _plain(key, value)]
    if odd:
        raise ModelError(f"{path.name!r} is no checkpoint: {_some(odd)} is no dense tensor.")
    return Checkpoint(_stripped(state), left_out)


def load_tensors(file: Any, *, mmap: bool = False) -> Any:
    """What torch.save wrote into `file`: tensors and plain containers, on the CPU, never code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old formats are what is read here
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)


def why(error: BaseException) -> str:
    """The reason that a library gave, as the end of a sentence."""
    text = " ".join(str(error).split())
    asked = _ASKED_FOR.search(text) if isinstance(error, UnpicklingError) else None
    if asked:
        return f"it asks for {asked[1]}, and code in a checkpoint is never run"
    return f"it is cut, damaged or no such file ({type(error).__name__}: {text[:120]})"


def _content(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            zipped = file.read(len(_ZIP)) == _ZIP
        if path.suffix == ".safetensors":
            return load_file(path)
        return load_tensors(path, mmap=zipped)
    except FileNotFoundError as error:
        raise ModelError(f"There is no checkpoint {str(path)!r}.") from error
    except IsADirectoryError as error:
        raise ModelError(f"{str(path)!r} is a folder: give the checkpoint file in it.") from error
    except DAMAGE as error:
        raise ModelError(f"The checkpoint {path.name!r} cannot be read: {why(error)}.") from error


def _unwrapped(content: Any, path: Path) -> tuple[Mapping[Any, Any], tuple[str, ...]]:
    if not isinstance(content, Mapping) or not content:
        kind = type(content).__name__
        raise ModelError(f"{path.name!r} is no checkpoint: it holds a {kind}, not named tensors.")
    for name in WRAPPERS:
        inner = content.get(name)
        if isinstance(inner, Mapping) and inner:
            beside = tuple(sorted(str(key) for key in content if key != name))
            return inner, beside
    return content, ()


def _stripped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = dict(state)
    while before := next((part for part in _AROUND if _all_begin(tensors, part)), ""):
        tensors = {key.removeprefix(before): value for key, value in tensors.items()}
    return tensors


def _all_begin(tensors: Mapping[str, Tensor], part: str) -> bool:
    return all(key.startswith(part) for key in tensors)


def _plain(key: object, value: object) -> bool:
    return (
        isinstance(key, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_quantized
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(name) for name in names[:3]) + more
