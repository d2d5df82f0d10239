"""Where a training keeps its state: named blobs of tensors and facts, replaced as a whole.

A blob is a safetensors file whose metadata holds the facts as JSON. The seam passes bytes, so
that a store needs to know nothing of tensors.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from captioner.errors import ModelError


class Checkpoints(Protocol):
    """A place for the blobs `last` and `best`; a reader never sees half of one."""

    def save(self, name: str, data: bytes) -> None:
        """Replace the blob called `name`."""

    def load(self, name: str) -> bytes | None:
        """The blob called `name`, None if there is none."""


class LocalCheckpoints:
    """Blobs as files of one local folder, each replaced by a rename."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, name: str, data: bytes) -> None:
        """Replace the blob called `name`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".{name}.{os.getpid()}.partial"
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.folder / f"{name}.safetensors")
        finally:
            partial.unlink(missing_ok=True)

    def load(self, name: str) -> bytes | None:
        """The blob called `name`, None if there is none."""
        path = self.folder / f"{name}.safetensors"
        return path.read_bytes() if path.exists() else None


class MemoryCheckpoints:
    """Keeps blobs in memory: a training that need not survive its process."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def save(self, name: str, data: bytes) -> None:
        """Replace the blob called `name`."""
        self._blobs[name] = data

    def load(self, name: str) -> bytes | None:
        """The blob called `name`, None if there is none."""
        return self._blobs.get(name)


def pack(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    """One blob of tensors and facts."""
    whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    return save(whole, metadata={"facts": json.dumps(facts, sort_keys=True)})


def unpack(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of a blob; raises ModelError if it is not one."""
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["facts"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"The training's checkpoint cannot be read: {error}.") from error
    return tensors, facts
