"""What colours come out of a file, whatever numbers, inks or transparency are in it."""

import io
import struct

import numpy as np
import pytest
from hostile import encoded, png_chunk
from hostile import png as handmade_png
from numpy.typing import NDArray
from PIL import Image

from captioner.pictures import decode

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(decode(data).rgb)


def colour(data: bytes, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    found = decode(data).rgb.getpixel(at)
    assert isinstance(found, tuple)
    return found


def grey(values: NDArray[np.generic], name: str = "TIFF") -> list[int]:
    """Decode one row of grey numbers."""
    return pixels(encoded(Image.fromarray(values), name))[0, :, 0].tolist()


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(name: str) -> None:
    row = np.array([[0, 128, 129, 257, 32768, 65278, 65535]], np.uint16)
    assert grey(row, name) == [0, 0, 1, 1, 128, 254, 255]


def test_16_bit_grey_that_says_white_is_zero_is_not_a_negative() -> None:
    data = encoded(Image.fromarray(np.array([[0, 65535]], np.uint16)), "TIFF", tiffinfo={262: 0})
    assert Image.open(io.BytesIO(data)).tag_v2[262] == 0
    assert pixels(data)[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 2.0, 255.0]], np.float32), [0, 2, 255]),
        (np.array([[0.0, 32768.0, 65535.0]], np.float32), [0, 128, 255]),
        (np.array([[-1.0, 0.0, 3.0]], np.float32), [0, 64, 255]),
        (np.array([[0.0, np.nan, 1.0, np.inf]], np.float32), [0, 0, 255, 0]),
        (np.array([[np.nan, np.nan]], np.float32), [0, 0]),
        (np.array([[-5.0, -5.0]], np.float32), [0, 0]),
        (np.array([[0, 1, 200]], np.int32), [0, 1, 200]),
        (np.array([[0, 32768, 65535]], np.int32), [0, 128, 255]),
        (np.array([[-1_000_000, 0, 1_000_000]], np.int32), [0, 128, 255]),
        (np.array([[0, 100_000, 200_000]], np.int32), [0, 128, 255]),
    ],
)
def test_wide_numbers_get_a_white_point_that_fits_them(
    row: NDArray[np.generic], expected: list[int]
) -> None:
    assert grey(row) == expected


def test_48_bit_colour_keeps_its_high_bytes() -> None:
    row = b"\x00" + bytes.fromhex("ffff 8000 0000".replace(" ", ""))
    assert colour(handmade_png(1, 1, row, bits=16, colour=2)) == (255, 128, 0)


def test_integers_that_say_they_are_unsigned_are_not_negative() -> None:
    row = np.array([[0, 2**31, 2**32 - 1]], np.uint32)
    data = encoded(Image.fromarray(row.view(np.int32)), "TIFF")
    signed, unsigned = (struct.pack("<HHIHH", 339, 3, 1, kind, 0) for kind in (2, 1))
    assert data.count(signed) == 1
    assert pixels(data.replace(signed, unsigned))[0, :, 0].tolist() == [0, 128, 255]


def test_wide_numbers_are_scaled_alike_in_every_part_of_a_large_picture() -> None:
    values = np.zeros((3000, 3000), np.float32)
    values[0, 0], values[-1, -1] = -100_000, 100_000
    levels = pixels(encoded(Image.fromarray(values), "TIFF"))
    assert (levels[0, 0, 0], levels[-1, -1, 0]) == (0, 255)
    assert set(levels[1:-1].ravel().tolist()) == {128}


def test_red_in_inks_is_red_on_screen() -> None:
    red = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    assert colour(encoded(red, "TIFF"), (16, 16)) == RED
    assert np.abs(np.subtract(colour(encoded(red, "JPEG", quality=95), (16, 16)), RED)).max() < 4


def test_red_in_inks_stored_as_luma_and_chroma_is_red_on_screen() -> None:
    """YCCK: Adobe's transform 2. Red needs the inks (0, 255, 255, 0), inverted (255, 0, 0, 255),
    whose first three, complemented, are cyan: luma 179, chroma 171 and 1."""
    planes = Image.new("CMYK", (32, 32), (255 - 179, 255 - 171, 255 - 1, 0))
    data = encoded(planes, "JPEG", quality=100)
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data = data[:transform] + b"\x02" + data[transform + 1 :]
    assert np.abs(np.subtract(colour(data, (16, 16)), RED)).max() < 6


def hidden_red() -> Image.Image:
    """Left half green and opaque, right half red and transparent."""
    image = Image.new("RGBA", (16, 16), (*GREEN, 255))
    image.paste((*RED, 0), (8, 0, 16, 16))
    return image


def keyed(mode: str, visible: object, hidden: object) -> Image.Image:
    image = Image.new(mode, (16, 16), visible)
    image.paste(hidden, (8, 0, 16, 16))
    return image


def palette_image() -> Image.Image:
    image = keyed("P", 1, 2)
    image.putpalette([0, 0, 0, *GREEN, *RED])
    return image


TRANSPARENT = {
    "RGBA in PNG": lambda: encoded(hidden_red(), "PNG"),
    "RGBA in WebP": lambda: encoded(hidden_red(), "WEBP", lossless=True, exact=True),
    "RGBA in TIFF": lambda: encoded(hidden_red(), "TIFF"),
    "RGBA in AVIF": lambda: encoded(hidden_red(), "AVIF", quality=100, subsampling="4:4:4"),
    "LA in PNG": lambda: encoded(keyed("LA", (90, 255), (10, 0)), "PNG"),
    "palette with one transparent entry in PNG": lambda: encoded(
        palette_image(), "PNG", transparency=2
    ),
    "palette with an alpha for each entry in PNG": lambda: encoded(
        palette_image(), "PNG", transparency=b"\xff\xff\x00"
    ),
    "palette with one transparent entry in GIF": lambda: encoded(
        palette_image(), "GIF", transparency=2
    ),
    "palette and alpha in TIFF": lambda: encoded(palette_and_alpha(), "TIFF"),
    "grey with a transparent level in PNG": lambda: encoded(
        keyed("L", 90, 10), "PNG", transparency=10
    ),
    "colour with a transparent colour in PNG": lambda: encoded(
        keyed("RGB", GREEN, RED), "PNG", transparency=RED
    ),
    "16-bit grey with a transparent level in PNG": lambda: handmade_png(
        16, 16, (b"\x00" + b"\x5a\x00" * 8 + b"\x0a\x0b" * 8) * 16,
        png_chunk(b"tRNS", b"\x0a\x0b"), bits=16,
    ),
    "48-bit colour with a transparent colour in PNG": lambda: handmade_png(
        16, 16, (b"\x00" + b"\x00\x00\xff\xff\x00\x00" * 8 + b"\xff\xfe\x00\x00\x00\x00" * 8) * 16,
        png_chunk(b"tRNS", b"\xff\xfe\x00\x00\x00\x00"), bits=16, colour=2,
    ),
}  # fmt: skip


def palette_and_alpha() -> Image.Image:
    image = palette_image().convert("PA")
    image.putalpha(keyed("L", 255, 0))
    return image


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_a_colour_hidden_by_transparency_does_not_show(kind: str) -> None:
    data = TRANSPARENT[kind]()
    assert colour(data, (14, 8)) == WHITE
    assert colour(data, (1, 8)) != WHITE


def test_half_transparent_black_becomes_mid_grey() -> None:
    assert colour(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG")) == (127, 127, 127)
