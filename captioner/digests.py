"""Fingerprints of weights: sha256 over files, without torch."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def files_digest(folder: Path, names: Iterable[str]) -> str:
    """sha256 (hex) over the names and contents of the files `names` in `folder`, in name order."""
    whole = hashlib.sha256()
    for name in sorted(names):
        with (folder / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{name}\0{content}\n".encode())
    return whole.hexdigest()


def text_digest(text: str) -> str:
    """sha256 (hex) of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
