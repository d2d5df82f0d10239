"""The scenes that can be drawn and said: what they are made of, and how they are sampled.

A scene is one group of alike things somewhere in the frame, or two groups that stand in a
relation, on a background. Every attribute here is obligatory: a caption that leaves one out is
incomplete. Nothing else about a drawing (tilt, shade, exact place) has a word.
"""

import hashlib
import random
from dataclasses import dataclass, replace
from typing import Any, Final

COUNTS: Final = (1, 2, 3, 4)
SIZES: Final = ("small", "large")
TEXTURES: Final = ("plain", "striped", "dotted")
COLOURS: Final = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
SHAPES: Final = ("circle", "square", "triangle", "diamond", "star", "cross", "heart")
PATTERNS: Final = ("plain", "lined", "speckled")
GROUNDS: Final = ("white", "gray", "black", "beige")
ROWS: Final = ("top", "middle", "bottom")
COLUMNS: Final = ("left", "middle", "right")
POSITIONS: Final = tuple(f"{row} {column}" for row in ROWS for column in COLUMNS)
RELATIONS: Final = ("left of", "above")
"""The first group of a pair is by definition the left or the upper one."""
PAIR_COUNTS: Final = COUNTS[:2]
"""More of a kind do not fit beside another group."""

GROUP_WORDS: Final[dict[str, tuple[Any, ...]]] = {
    "count": COUNTS,
    "size": SIZES,
    "texture": TEXTURES,
    "colour": COLOURS,
    "shape": SHAPES,
}
GROUND_WORDS: Final[dict[str, tuple[str, ...]]] = {"pattern": PATTERNS, "colour": GROUNDS}
_HELD_OUT_SHARE: Final = 10  # one description in this many is kept from every training


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Between one and four things of one kind, standing together."""

    count: int
    size: str
    texture: str
    colour: str
    shape: str

    def __post_init__(self) -> None:
        for attribute, words in GROUP_WORDS.items():
            _one_of(attribute, getattr(self, attribute), words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the things stand on."""

    pattern: str
    colour: str

    def __post_init__(self) -> None:
        for attribute, words in GROUND_WORDS.items():
            _one_of(attribute, getattr(self, attribute), words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One group at a position of the frame, or two groups in a relation, on a ground."""

    groups: tuple[Group, ...]
    layout: str
    """One of POSITIONS for one group, one of RELATIONS (first to second) for two."""
    ground: Ground

    def __post_init__(self) -> None:
        if len(self.groups) not in (1, 2):
            raise ValueError(f"a scene has one or two groups, got {len(self.groups)}")
        _one_of("layout", self.layout, POSITIONS if len(self.groups) == 1 else RELATIONS)
        if len(self.groups) == 2:
            first, second = self.groups
            for group in self.groups:
                _one_of("count of a pair", group.count, PAIR_COUNTS)
            if (first.colour, first.shape) == (second.colour, second.shape):
                raise ValueError(f"two groups differ in colour or shape, got {first} twice")


def _one_of(attribute: str, value: object, words: tuple[object, ...]) -> None:
    if value not in words:
        raise ValueError(f"{attribute} must be one of {words}, got {value!r}")


def describe(scene: Scene) -> str:
    """The one canonical description: equal for equal scenes, distinct for distinct ones."""
    groups = [
        f"{group.count} {group.size} {group.texture} {group.colour} {group.shape}"
        for group in scene.groups
    ]
    where = (
        f"{groups[0]} at {scene.layout}" if len(groups) == 1 else f" {scene.layout} ".join(groups)
    )
    return f"{where} on {scene.ground.pattern} {scene.ground.colour}"


def is_held_out(scene: Scene) -> bool:
    """Whether no training may ever draw this scene; its description alone decides."""
    digest = hashlib.blake2b(describe(scene).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % _HELD_OUT_SHARE == 0


def sample(n: int, seed: int, *, held_out: bool = False) -> list[Scene]:
    """Pick `n` distinct scenes, half of them pairs, from the training or the held-out part."""
    rng = random.Random(seed)  # noqa: S311 - pictures, not secrets
    found: dict[Scene, None] = {}
    while len(found) < n:
        scene = any_scene(rng)
        if is_held_out(scene) == held_out:
            found[scene] = None
    return list(found)


def any_scene(rng: random.Random) -> Scene:
    """Pick one scene of either part."""
    ground = Ground(pattern=rng.choice(PATTERNS), colour=rng.choice(GROUNDS))
    if rng.random() < 0.5:
        return Scene(groups=(_any_group(rng, COUNTS),), layout=rng.choice(POSITIONS), ground=ground)
    first, second = _any_group(rng, PAIR_COUNTS), _any_group(rng, PAIR_COUNTS)
    while (first.colour, first.shape) == (second.colour, second.shape):
        second = _any_group(rng, PAIR_COUNTS)
    return Scene(groups=(first, second), layout=rng.choice(RELATIONS), ground=ground)


def near(scene: Scene, rng: random.Random) -> Scene:
    """Change one thing about `scene`: a near miss, for hard negatives and tests."""
    while True:
        changed = _change(scene, rng)
        if changed is not None and changed != scene:
            return changed


def _any_group(rng: random.Random, counts: tuple[int, ...]) -> Group:
    return Group(
        count=rng.choice(counts),
        size=rng.choice(SIZES),
        texture=rng.choice(TEXTURES),
        colour=rng.choice(COLOURS),
        shape=rng.choice(SHAPES),
    )


def _change(scene: Scene, rng: random.Random) -> Scene | None:
    choice = rng.randrange(10)
    pair = len(scene.groups) == 2
    if choice == 0:
        return replace(scene, layout=rng.choice(RELATIONS if pair else POSITIONS))
    if choice == 1:
        attribute = rng.choice(list(GROUND_WORDS))
        word = rng.choice(GROUND_WORDS[attribute])
        return replace(scene, ground=replace(scene.ground, **{attribute: word}))
    if choice <= 3 and pair:
        return _swap(scene, rng)
    which = rng.randrange(len(scene.groups))
    attribute = rng.choice(list(GROUP_WORDS))
    groups = list(scene.groups)
    value = rng.choice(GROUP_WORDS[attribute])
    groups[which] = replace(groups[which], **{attribute: value})
    return _scene_or_none(scene, groups)


def _swap(scene: Scene, rng: random.Random) -> Scene | None:
    """Exchange the two groups, or one attribute of theirs."""
    first, second = scene.groups
    attribute = rng.choice(["all", *GROUP_WORDS])
    if attribute == "all":
        return _scene_or_none(scene, [second, first])
    one, other = getattr(first, attribute), getattr(second, attribute)
    swapped = [replace(first, **{attribute: other}), replace(second, **{attribute: one})]
    return _scene_or_none(scene, swapped)


def _scene_or_none(scene: Scene, groups: list[Group]) -> Scene | None:
    try:
        return replace(scene, groups=tuple(groups))
    except ValueError:
        return None
