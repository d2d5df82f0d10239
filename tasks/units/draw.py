"""Draw scenes as pictures with captions, and judge captions by the scenes they were drawn from."""

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from captioner.devices import usable_cores
from captioner.scenes import attribute_true, captions, draw, sample

SEEN = "seen"
UNSEEN = "unseen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A collection of drawn scenes: a function of these four numbers."""

    seen: int = 3000
    """Scenes to learn from, with five captions each beside the picture."""
    unseen: int = 500
    """Scenes of descriptions that no training ever sees, without captions."""
    size: int = 128
    """Side of a picture in pixels."""
    seed: int = 1


def draw_collection(folder: str, drawing: Drawing) -> None:
    """Write the pictures into `folder`, those that are there already excepted."""
    place = Path(folder)
    parts = [(SEEN, number) for number in range(drawing.seen)]
    parts += [(UNSEEN, number) for number in range(drawing.unseen)]
    for part in (SEEN, UNSEEN):
        (place / part).mkdir(parents=True, exist_ok=True)
    missing = [part for part in parts if not _path(place, *part).exists()]
    chunks = [missing[start : start + 250] for start in range(0, len(missing), 250)]
    with ProcessPoolExecutor(usable_cores(), get_context("spawn")) as pool:
        for _ in pool.map(partial(_draw, place, drawing), chunks):
            pass


def judge_unseen(
    rows: Iterable[tuple[str, str | None]], drawing: Drawing
) -> tuple[int, float, list[str]]:
    """How many unseen scenes there are, the share with a true caption, and a few that are not.

    `rows` are (path, caption). A caption is true if every attribute that it states is, and none
    is left out that the scene language names.
    """
    scenes = sample(drawing.unseen, drawing.seed, held_out=True)
    judged = {
        path: attribute_true(caption or "", scenes[int(Path(path).stem)])
        for path, caption in rows
        if path and path.startswith(f"{UNSEEN}/")
    }
    wrong = sorted(path for path, true in judged.items() if not true)
    return len(judged), sum(judged.values()) / max(1, len(judged)), wrong[:5]


def _draw(place: Path, drawing: Drawing, parts: list[tuple[str, int]]) -> None:
    scenes = {
        SEEN: sample(drawing.seen, drawing.seed),
        UNSEEN: sample(drawing.unseen, drawing.seed, held_out=True),
    }
    for part, number in parts:
        scene = scenes[part][number]
        path = _path(place, part, number)
        if part == SEEN:
            lines = captions(scene, n=5, seed=drawing.seed + number)
            path.with_suffix(".txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
        partial_path = path.with_suffix(".partial")
        draw(scene, size=drawing.size, seed=drawing.seed + number).save(partial_path, "PNG")
        partial_path.replace(path)


def _path(place: Path, part: str, number: int) -> Path:
    return place / part / f"{number:05}.png"
