"""What drawings are pasted from: shapes as masks, fills and grounds as tiles, cached by size.

Each ingredient comes in a few variants, chosen by a small index, so that a picture costs a
handful of pastes. `side` is the width of the whole picture in px.
"""

import random
from functools import cache, lru_cache
from math import cos, pi, sin
from typing import Final

from PIL import Image, ImageDraw

RADII: Final = {"small": 0.115, "large": 0.165}
"""Of the frame's side."""
REACH: Final = 1.12
"""How far the farthest corner of any shape is from its centre, in radii."""
SHADES: Final = 4
STEPS: Final = 3
TILTS: Final = 5
FILLS: Final = 4
GROUNDS: Final = 8
_FINE: Final = 4  # supersampling
_PALETTE: Final = {
    "red": (215, 35, 40),
    "orange": (245, 135, 25),
    "yellow": (245, 225, 50),
    "green": (45, 160, 65),
    "blue": (40, 85, 215),
    "purple": (130, 50, 170),
    "pink": (250, 140, 195),
    "brown": (120, 72, 38),
    "white": (246, 246, 246),
    "gray": (150, 150, 152),
    "black": (24, 24, 26),
    "beige": (226, 204, 164),
}
_Colour = tuple[int, int, int]
_Point = tuple[float, float]


@lru_cache(maxsize=2048)
def stencils(
    shape: str, size: str, step: int, tilt: int, side: int
) -> tuple[Image.Image, Image.Image]:
    """The inside of a shape and its outline, as masks of equal size."""
    radius = RADII[size] * (0.95 + 0.05 * step) * side
    width = 2 * round(radius * (REACH + 0.1)) + 1
    angle = (tilt - TILTS // 2) * pi / 45
    points = [
        (
            (width / 2 + (x * cos(angle) - y * sin(angle)) * radius) * _FINE,
            (width / 2 + (x * sin(angle) + y * cos(angle)) * radius) * _FINE,
        )
        for x, y in _CORNERS[shape]
    ]
    inside = Image.new("L", (width * _FINE, width * _FINE))
    outline = inside.copy()
    ImageDraw.Draw(inside).polygon(points, fill=255)
    line = round(0.024 * side * _FINE)
    ImageDraw.Draw(outline).line([*points, *points[:2]], fill=255, width=line, joint="curve")
    return _shrink(inside), _shrink(outline)


@cache
def shade_of(colour: str, shade: int) -> _Colour:
    """One of a few tints of `colour`, always the same few."""
    rng = random.Random(f"{colour} {shade}")  # noqa: S311 - pictures, not secrets
    red, green, blue = (min(255, max(0, c + rng.randint(-7, 7))) for c in _PALETTE[colour])
    return red, green, blue


@lru_cache(maxsize=2048)
def fill(texture: str, tint: tuple[str, int], phase: int, side: int) -> Image.Image:
    """A tile for the inside of the largest shape; `tint` is a colour and its shade."""
    ink = (250, 250, 250) if sum(_PALETTE[tint[0]]) < 400 else (40, 40, 44)
    width = 2 * round(RADII["large"] * (1 + 0.05 * STEPS) * (REACH + 0.1) * side) + 1
    tile = Image.new("RGB", (width * _FINE, width * _FINE), shade_of(*tint))
    pen = ImageDraw.Draw(tile)
    if texture == "plain":
        return _shrink(tile)
    pitch = 0.08 * side * _FINE
    # A spot or a stripe is at the centre, give or take, or a small star would show none of it.
    start = tile.width / 2 % pitch - pitch * (1.125 + 0.1 * phase)
    if texture == "striped":
        for y in _steps(start, pitch, tile.height):
            pen.rectangle((0, y, tile.width, y + pitch * 0.45), fill=ink)
    else:
        for x, y in _lattice(start, pitch, tile.width):
            pen.ellipse((x, y, x + pitch * 0.55, y + pitch * 0.55), fill=ink)
    return _shrink(tile)


@lru_cache(maxsize=512)
def ground(pattern: str, colour: str, variant: int, side: int) -> Image.Image:
    """A whole background; the caller copies it before drawing on it."""
    rng = random.Random(f"{pattern} {colour} {variant}")  # noqa: S311 - pictures, not secrets
    base = shade_of(colour, variant % SHADES)
    picture = Image.new("RGB", (side * _FINE, side * _FINE), base)
    pen, unit = ImageDraw.Draw(picture), side * _FINE
    change = 62 if colour == "black" else -48
    red, green, blue = (max(0, channel + change) for channel in base)
    if pattern == "lined":
        for x in _steps(-rng.random() * 0.1 * unit, 0.1 * unit, unit):
            pen.rectangle((x, 0, x + 0.022 * unit, unit), fill=(red, green, blue))
    elif pattern == "speckled":
        for _ in range(110):
            x, y = rng.random() * unit, rng.random() * unit
            speck = rng.uniform(0.012, 0.022) * unit
            pen.ellipse((x, y, x + speck, y + speck), fill=(red, green, blue))
    return _shrink(picture)


def _shrink(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // _FINE, picture.height // _FINE), Image.Resampling.BOX)


def _steps(start: float, pitch: float, end: float) -> list[float]:
    return [start + i * pitch for i in range(int((end - start) / pitch) + 1)]


def _lattice(start: float, pitch: float, end: float) -> list[_Point]:
    return [(x, y) for x in _steps(start, pitch, end) for y in _steps(start, pitch, end)]


def _ring(n: int, *radii: float) -> list[_Point]:
    """Corners at even angles from the top, their distances taken from `radii` in turn."""
    angles = [2 * pi * i / n - pi / 2 for i in range(n)]
    return [
        (radii[i % len(radii)] * cos(angle), radii[i % len(radii)] * sin(angle))
        for i, angle in enumerate(angles)
    ]


def _heart() -> list[_Point]:
    """The curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t (mathworld)."""
    turns = [2 * pi * i / 40 for i in range(40)]
    return [
        (
            1.05 * sin(t) ** 3,
            -(13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)) / 15.5 - 0.1,
        )
        for t in turns
    ]


_ARM: Final = 0.3
_CORNERS: Final = {
    "circle": _ring(40, 0.95),
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0.0, -1.0), (1.05, 0.8), (-1.05, 0.8)],
    "diamond": [(0.0, -1.12), (0.78, 0.0), (0.0, 1.12), (-0.78, 0.0)],
    "star": _ring(10, 1.12, 0.5),
    "cross": [
        *[(-_ARM, -1.0), (_ARM, -1.0), (_ARM, -_ARM), (1.0, -_ARM), (1.0, _ARM), (_ARM, _ARM)],
        *[(_ARM, 1.0), (-_ARM, 1.0), (-_ARM, _ARM), (-1.0, _ARM), (-1.0, -_ARM), (-_ARM, -_ARM)],
    ],
    "heart": _heart(),
}
