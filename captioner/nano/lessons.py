"""Endless lessons of drawn scenes: pictures, what is said of them, and what is where.

Shapes:  B batch   H, W height and width in px   A attributes   G cells of a coarse grid's side
"""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captioner import scenes
from captioner.scenes import Member, Scene
from captioner.scenes.language import GROUND_WORDS, GROUP_WORDS, POSITIONS, RELATIONS

ATTRIBUTES: Final[dict[str, tuple[str | int, ...]]] = {
    **{f"first {name}": words for name, words in GROUP_WORDS.items()},
    **{f"second {name}": words for name, words in GROUP_WORDS.items()},
    "layout": (*POSITIONS, *RELATIONS),
    **{f"ground {name}": words for name, words in GROUND_WORDS.items()},
}
"""Every attribute a scene can have, and its words: A of them, in the order of the labels."""
ABSENT: Final = -100
"""The label of what is not there; cross entropy ignores it."""
GRID: Final = 8
_SIZES_PX: Final = (64, 64, 64, 96, 128, 160)  # shrunk to the encoder's size, as at run time
_ALIKE: Final = 4  # neighbours of a batch that differ in one thing


@dataclass(frozen=True, slots=True)
class Lesson:
    """One batch."""

    pixels: Tensor
    """BHW3, uint8."""
    captions: list[str]
    labels: Tensor
    """BA: the index of each attribute's word, or ABSENT."""
    owners: Tensor
    """BGG: the group (0 or 1) that stands in each cell, or ABSENT."""


def lessons(batch: int, image_size: int, seed: int) -> Iterator[Lesson]:
    """Draw training lessons for ever, one ahead of its use; the same seed gives the same ones."""
    with ThreadPoolExecutor(1) as artist:
        waiting = artist.submit(_lesson, batch, image_size, f"{seed} 0")
        index = 0
        while True:
            index += 1
            done, waiting = waiting, artist.submit(_lesson, batch, image_size, f"{seed} {index}")
            yield done.result()


def examination(n: int, image_size: int, seed: int) -> Lesson:
    """Draw `n` distinct scenes that no training has seen."""
    rng = random.Random(f"examination {seed}")  # noqa: S311 - pictures, not secrets
    return _compose(scenes.sample(n, seed, held_out=True), image_size, rng)


def _lesson(batch: int, image_size: int, seed: str) -> Lesson:
    rng = random.Random(seed)  # noqa: S311 - pictures, not secrets
    chosen: dict[Scene, None] = {}
    while len(chosen) < batch:
        alike = [scenes.any_scene(rng)]
        alike += [scenes.near(alike[0], rng) for _ in range(_ALIKE - 1)]
        chosen.update((scene, None) for scene in alike if not scenes.is_held_out(scene))
    return _compose(list(chosen)[:batch], image_size, rng)


def _compose(chosen: list[Scene], image_size: int, rng: random.Random) -> Lesson:
    pictures, owners = [], []
    for scene in chosen:
        size, seed = rng.choice(_SIZES_PX), rng.randrange(2**32)
        drawn, members = scenes.draw_members(scene, size=size, seed=seed)
        pictures.append(np.asarray(_shrink(drawn, image_size)))
        owners.append(_owners(members))
    return Lesson(
        pixels=torch.from_numpy(np.stack(pictures)),
        captions=[scenes.phrase(scene, rng) for scene in chosen],
        labels=torch.tensor([_labels(scene) for scene in chosen]),
        owners=torch.from_numpy(np.stack(owners)),
    )


def _shrink(picture: Image.Image, image_size: int) -> Image.Image:
    """Do what the encoder's preprocessing will do: squash, bicubic."""
    if picture.size == (image_size, image_size):
        return picture
    return picture.resize((image_size, image_size), Image.Resampling.BICUBIC)


def _labels(scene: Scene) -> list[int]:
    told: dict[str, str | int] = {"layout": scene.layout}
    for which, group in zip(("first", "second"), scene.groups, strict=False):
        told |= {f"{which} {name}": getattr(group, name) for name in GROUP_WORDS}
    told |= {f"ground {name}": getattr(scene.ground, name) for name in GROUND_WORDS}
    return [
        words.index(told[name]) if name in told else ABSENT for name, words in ATTRIBUTES.items()
    ]


def _owners(members: list[Member]) -> np.ndarray:
    """Mark the cells whose centre is well inside a thing: GG."""
    owners_GG = np.full((GRID, GRID), ABSENT)
    centres_G = np.arange(GRID) + 0.5
    for member in members:
        reach = max(0.5, 0.75 * member.radius * GRID)
        rows_G = np.abs(centres_G - member.y * GRID) <= reach
        columns_G = np.abs(centres_G - member.x * GRID) <= reach
        owners_GG[np.ix_(rows_G, columns_G)] = member.group
    return owners_GG
