"""Files damaged at random: whatever the image libraries raise, it comes out as a PictureError."""

import random
import time

import pytest
from hostile import encoded, exif_orientation, scene, with_exif

from captioner.errors import PictureError
from captioner.pictures import decode

CODES = {
    *("empty", "not_image", "unsupported_format", "truncated", "corrupt", "too_large"),
    *("bad_aspect", "metadata_error", "out_of_memory"),
}


def code_of(data: bytes) -> str:
    """Decode it: "" for a picture, else the code."""
    try:
        decode(data)
    except PictureError as error:
        return error.code
    return ""


def healthy() -> dict[str, bytes]:
    """Return one good file of each of nine kinds."""
    return {
        "jpeg": with_exif(encoded(scene(), "JPEG"), exif_orientation(6)),
        "progressive": encoded(scene("CMYK"), "JPEG", progressive=True),
        "png": encoded(scene("RGBA"), "PNG"),
        "webp": encoded(scene("RGBA"), "WEBP"),
        "gif": encoded(scene(), "GIF", save_all=True, append_images=[scene().rotate(90)]),
        "bmp": encoded(scene(), "BMP"),
        "tiff": encoded(scene(), "TIFF", tiffinfo={274: 6}),
        "lzw": encoded(scene("L").convert("I;16"), "TIFF", compression="tiff_lzw"),
        "avif": encoded(scene(), "AVIF"),
    }


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return `data` after one to four random accidents, more often near its head."""
    wounded = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = int(rng.random() ** rng.choice((1, 3)) * len(wounded))
        length = rng.randint(1, 40)
        match rng.randrange(6):
            case 0:
                wounded[at : at + 1] = rng.randbytes(1)
            case 1:
                wounded[at : at + length] = rng.randbytes(length)
            case 2:
                wounded[at : at + length] = rng.choice((b"\x00", b"\xff", b"\x7f")) * length
            case 3:
                del wounded[at : at + length]
            case 4:
                wounded[at:at] = wounded[at : at + length]
            case 5:
                del wounded[max(1, at) :]
    return bytes(wounded)


def survive(total: int) -> dict[str, int]:
    """Decode `total` damaged files; count the outcomes by code."""
    counts: dict[str, int] = {}
    rng = random.Random(20)
    kinds = healthy()
    for number in range(total):
        data = damaged(kinds[[*kinds][number % len(kinds)]], rng)
        start = time.perf_counter()
        code = code_of(data)
        assert time.perf_counter() - start < 10, f"file {number} took more than 10 s"
        counts[code] = counts.get(code, 0) + 1
    return counts


def test_600_damaged_files_raise_nothing_but_a_picture_error() -> None:
    counts = survive(600)
    assert counts.keys() <= CODES | {""}
    assert counts["truncated"] > 50 < counts["corrupt"]


@pytest.mark.slow
def test_13500_damaged_files_raise_nothing_but_a_picture_error() -> None:
    assert survive(13_500).keys() <= CODES | {""}
