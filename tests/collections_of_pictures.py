"""Small collections of real pictures whose right captions are known: `size` captions tell them."""

from pathlib import Path

from PIL import Image

from proofs.stores import TIMED


def draw_sizes(folder: Path, count: int, *, start: int = 0) -> dict[str, str]:
    """`count` PNG files of different sizes in two folders, and what `size` must say of each."""
    truths = {}
    for number in range(start, start + count):
        width, height = 20 + number % 37, 30 + number // 37
        path = folder / f"part-{number % 2}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height), (number % 251, 90, 160)).save(path)
        truths[path.relative_to(folder).as_posix()] = f"A picture of {width} by {height} pixels."
    return truths


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` by relative path, but those that tell of time."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in TIMED
    }
