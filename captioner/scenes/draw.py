"""Scenes as pictures: two drawings of a scene differ in everything that has no word.

Lengths are fractions of the frame's side unless a name says px. A point is (x, y), y downwards.
"""

import random
from dataclasses import dataclass
from typing import Final

from PIL import Image

from captioner.scenes.language import COLUMNS, ROWS, Group, Scene
from captioner.scenes.stencils import (
    FILLS,
    GROUNDS,
    RADII,
    REACH,
    SHADES,
    STEPS,
    TILTS,
    fill,
    ground,
    shade_of,
    stencils,
)

SMALLEST_PX: Final = 32
_SPACING: Final = 2.35  # between the centres of neighbours, in radii
_MARGIN: Final = 0.01
_LEAN: Final = 0.1  # a group that belongs to a side of the frame is at least this far out
_FARTHEST: Final = 0.3
_Point = tuple[float, float]

# Where the members of a group may stand, in spacings from its centre.
_FORMATIONS: Final[dict[int, tuple[tuple[_Point, ...], ...]]] = {
    1: (((0, 0),),),
    2: (
        ((-0.5, 0), (0.5, 0)),
        ((0, -0.5), (0, 0.5)),
        ((-0.4, -0.4), (0.4, 0.4)),
        ((-0.4, 0.4), (0.4, -0.4)),
    ),
    3: (
        ((0, -0.44), (-0.5, 0.44), (0.5, 0.44)),
        ((0, 0.44), (-0.5, -0.44), (0.5, -0.44)),
        ((-0.44, 0), (0.44, -0.5), (0.44, 0.5)),
        ((0.44, 0), (-0.44, -0.5), (-0.44, 0.5)),
        ((-1, 0), (0, 0), (1, 0)),
        ((0, -1), (0, 0), (0, 1)),
    ),
    4: (
        ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)),
        ((0, -0.72), (-0.72, 0), (0.72, 0), (0, 0.72)),
    ),
}


@dataclass(frozen=True, slots=True)
class _Slot:
    """The part of the frame that is a group's own, and where in it the group belongs."""

    centre: _Point = (0.5, 0.5)
    room: _Point = (0.5, 0.5)  # half the extent
    lean: _Point = (0, 0)  # -1 far left or up, 0 centred, 1 far right or down
    stray: _Point = (0.03, 0.03)  # how far from the centre a centred group may be


@dataclass(frozen=True, slots=True)
class Member:
    """One thing in a drawing; lengths are fractions of the side."""

    group: int
    """Its group's index in the scene."""
    x: float
    y: float
    radius: float


def draw(scene: Scene, *, size: int = 128, seed: int = 0) -> Image.Image:
    """Draw `scene` as a square RGB picture of `size` px; the same seed draws the same picture.

    Raises ValueError if `size` is too small to show a scene.
    """
    return draw_members(scene, size=size, seed=seed)[0]


def draw_members(
    scene: Scene, *, size: int = 128, seed: int = 0
) -> tuple[Image.Image, list[Member]]:
    """Draw as `draw` does and tell where everything is."""
    if size < SMALLEST_PX:
        raise ValueError(f"size must be at least {SMALLEST_PX} px, got {size}")
    rng = random.Random(seed)  # noqa: S311 - pictures, not secrets
    picture = ground(scene.ground.pattern, scene.ground.colour, rng.randrange(GROUNDS), size).copy()
    members: list[Member] = []
    for index, slot in enumerate(_slots(scene.layout)):
        group = scene.groups[index]
        places = _places(group, slot, rng)
        _draw_group(picture, group, places, rng)
        members += [Member(index, x, y, RADII[group.size]) for x, y in places]
    return picture, members


def _slots(layout: str) -> tuple[_Slot, ...]:
    if layout == "left of":
        room, stray = (0.25, 0.5), (0.02, 0.1)
        return _Slot((0.25, 0.5), room, stray=stray), _Slot((0.75, 0.5), room, stray=stray)
    if layout == "above":
        room, stray = (0.5, 0.25), (0.1, 0.02)
        return _Slot((0.5, 0.25), room, stray=stray), _Slot((0.5, 0.75), room, stray=stray)
    row, column = layout.split()
    return (_Slot(lean=(COLUMNS.index(column) - 1, ROWS.index(row) - 1)),)


def _draw_group(
    picture: Image.Image, group: Group, places: list[_Point], rng: random.Random
) -> None:
    """Paste the members of `group` into `picture`: alike in shade and size, each with its tilt."""
    side = picture.width
    shade, step = rng.randrange(SHADES), rng.randrange(STEPS)
    inner = fill(group.texture, (group.colour, shade), rng.randrange(FILLS), side)
    line = shade_of(group.colour, shade)
    for x, y in places:
        inside, outline = stencils(group.shape, group.size, step, rng.randrange(TILTS), side)
        left, top = round(x * side - inside.width / 2), round(y * side - inside.height / 2)
        box = (left, top, left + inside.width, top + inside.height)
        corner = (inner.width - inside.width) // 2
        picture.paste(
            inner.crop((corner, corner, corner + inside.width, corner + inside.height)), box, inside
        )
        picture.paste(line, box, outline)


def _places(group: Group, slot: _Slot, rng: random.Random) -> list[_Point]:
    """Choose the centres of a group's members: a formation that fits, then a place for it."""
    radius = RADII[group.size]
    spacing, reach = radius * _SPACING, radius * REACH + _MARGIN
    fitting: list[tuple[tuple[_Point, ...], _Point]] = []
    for formation in _FORMATIONS[group.count]:
        slack_x = slot.room[0] - reach - spacing * max(abs(x) for x, _ in formation)
        slack_y = slot.room[1] - reach - spacing * max(abs(y) for _, y in formation)
        if slack_x >= abs(slot.lean[0]) * _LEAN and slack_y >= abs(slot.lean[1]) * _LEAN:
            fitting.append((formation, (slack_x, slack_y)))
    formation, slack = rng.choice(fitting)
    centre_x, centre_y = (slot.centre[axis] + _offset(slot, slack, axis, rng) for axis in (0, 1))
    jitter = radius * 0.05
    return [
        (
            centre_x + x * spacing + rng.uniform(-jitter, jitter),
            centre_y + y * spacing + rng.uniform(-jitter, jitter),
        )
        for x, y in formation
    ]


def _offset(slot: _Slot, slack: _Point, axis: int, rng: random.Random) -> float:
    if slot.lean[axis]:
        return slot.lean[axis] * min(slack[axis], _FARTHEST) * rng.uniform(0.85, 1)
    return rng.uniform(-1, 1) * min(slack[axis], slot.stray[axis])
