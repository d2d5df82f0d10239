"""Puts an imported model where it was asked for: whole or not at all, over nothing else."""

import json
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from captioner.errors import ModelError
from captioner.model import CaptionModel


def check_free(folder: Path) -> None:
    """Raise ModelError unless a model can be written to `folder`."""
    if ":/" in str(folder):
        raise ModelError(f"A model is imported into a local folder, not {str(folder)!r}.")
    try:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ModelError(f"{str(folder)!r} is not an empty folder; give a new one.")
    except OSError as error:
        raise ModelError(f"{str(folder)!r} cannot be written: {error.strerror}.") from error
    above = next(place for place in folder.absolute().parents if place.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ModelError(f"{str(folder)!r} cannot be written: no new folder in {str(above)!r}.")


def publish(model: CaptionModel, folder: Path, dtype: str, notes: dict[str, Any]) -> None:
    """Write the model beside `folder` and give it its name last; raises ModelError."""
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    new = [place for place in folder.absolute().parents if not place.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        model.save(partial, dtype=dtype)
        text = json.dumps(notes, indent=2, sort_keys=True) + "\n"
        (partial / "training.json").write_text(text, encoding="utf-8")
        _flush(partial)
        partial.rename(folder)
    except OSError as error:
        raise ModelError(f"{str(folder)!r} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for place in new:
            with suppress(OSError):  # one that holds something stays
                place.rmdir()


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
