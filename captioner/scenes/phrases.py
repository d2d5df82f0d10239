"""A scene in words: many phrasings of the same facts, every one of them complete.

What these templates can say, `judge.parse` can read; a test holds the two together.
"""

import random
from typing import Final

from captioner.scenes.language import Ground, Group, Scene

NUMBERS: Final = {1: ("a", "one"), 2: ("two",), 3: ("three",), 4: ("four",)}
PLURALS: Final = {"cross": "crosses"}
"""Plurals that are not formed with a bare s."""
WITH: Final = {"striped": "stripes", "dotted": "dots"}
PLACES: Final = {
    "top left": ("in the top left corner", "at the upper left"),
    "top middle": ("at the top", "near the top edge"),
    "top right": ("in the top right corner", "at the upper right"),
    "middle left": ("on the left", "near the left edge"),
    "middle middle": ("in the middle", "in the center"),
    "middle right": ("on the right", "near the right edge"),
    "bottom left": ("in the bottom left corner", "at the lower left"),
    "bottom middle": ("at the bottom", "near the bottom edge"),
    "bottom right": ("in the bottom right corner", "at the lower right"),
}
RELATING: Final = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
OPPOSITE: Final = {"left of": "right of", "above": "below"}
SIDES: Final = {
    "left of": ("on the left", "on the right"),
    "above": ("at the top", "at the bottom"),
}


def captions(scene: Scene, n: int = 5, seed: int = 0) -> list[str]:
    """Say `scene` in `n` different ways."""
    rng = random.Random(seed)  # noqa: S311 - phrasings, not secrets
    said: dict[str, None] = {}
    while len(said) < n:
        said[phrase(scene, rng)] = None
    return list(said)


def phrase(scene: Scene, rng: random.Random) -> str:
    """Say `scene` in one of its ways."""
    ground = _ground(scene.ground, rng)
    form = rng.randrange(6)
    if form == 0 and len(scene.groups) == 1:
        place = rng.choice(PLACES[scene.layout])
        return f"{place}, {_group(scene.groups[0], rng)} on {ground}"
    things = _single(scene, rng) if len(scene.groups) == 1 else _pair(scene, rng)
    if form == 1:
        return f"{ground} with {things}"
    if form == 2:
        return f"on {ground}, {things}"
    if form == 3:
        pattern, colour = scene.ground.pattern, scene.ground.colour
        words = rng.choice([f"{pattern} and {colour}", f"{colour} and {pattern}"])
        return f"{things}, and the background is {words}"
    if form == 4:
        return f"a picture of {things} on {ground}"
    return f"{things} on {ground}"


def _single(scene: Scene, rng: random.Random) -> str:
    return f"{_group(scene.groups[0], rng)} {rng.choice(PLACES[scene.layout])}"


def _pair(scene: Scene, rng: random.Random) -> str:
    first, second = (_group(group, rng) for group in scene.groups)
    form = rng.randrange(4)
    if form == 0:
        return f"{second} {rng.choice(RELATING[OPPOSITE[scene.layout]])} {first}"
    if form == 1:
        near_side, far_side = SIDES[scene.layout]
        sides = [f"{first} {near_side}", f"{second} {far_side}"]
        rng.shuffle(sides)
        return " and ".join(sides)
    return f"{first} {rng.choice(RELATING[scene.layout])} {second}"


def _group(group: Group, rng: random.Random) -> str:
    number = rng.choice(NUMBERS[group.count])
    noun = group.shape if group.count == 1 else PLURALS.get(group.shape, f"{group.shape}s")
    form = rng.randrange(5)
    if form == 0 and group.texture in WITH:
        return f"{number} {group.size} {group.colour} {noun} with {WITH[group.texture]}"
    if form == 1:
        verb = "is" if group.count == 1 else "are"
        return f"{number} {group.colour} {noun} that {verb} {group.size} and {group.texture}"
    if form == 2:
        return f"{number} {group.texture} {group.size} {group.colour} {noun}"
    return f"{number} {group.size} {group.texture} {group.colour} {noun}"


def _ground(ground: Ground, rng: random.Random) -> str:
    words = rng.choice([f"{ground.pattern} {ground.colour}", f"{ground.colour} {ground.pattern}"])
    return f"a {words} background"
