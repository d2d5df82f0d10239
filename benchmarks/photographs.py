"""Tars of made photographs, as img2dataset writes them."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from captioner.photographs import photograph


def tars(folder: Path, count: int, each: int, size: tuple[int, int] = (500, 375)) -> list[Path]:
    """`count` tars of `each` photographs with a caption and a JSON, kept if they are there."""
    found = []
    for number in range(count):
        path = folder / f"{number:05d}.tar"
        found.append(path)
        if path.exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with tarfile.open(partial, "w") as file:
            for name, data in _members(number, each, size):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
        partial.rename(path)
    return found


def _members(number: int, each: int, size: tuple[int, int]) -> Iterator[tuple[str, bytes]]:
    for at in range(each):
        key = f"{number:05d}{at:04d}"
        yield f"{key}.jpg", photograph(*size, seed=number * each + at)
        yield f"{key}.json", b'{"key": "%s"}' % key.encode()
        yield f"{key}.txt", b"a picture of shapes"
