"""Which way is up, which frame is taken, and how large it comes out."""

import numpy as np
import pytest
from hostile import encoded, exif_orientation, scene, with_exif
from numpy.typing import NDArray
from PIL import Image

from captioner.errors import PictureError
from captioner.pictures import decode, inspect

RED = (255, 0, 0)


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(decode(data).rgb)


def colour(data: bytes, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    found = decode(data).rgb.getpixel(at)
    assert isinstance(found, tuple)
    return found


STORED = {  # EXIF 2.32: which side of the upright picture row 0 and column 0 are
    1: lambda up: up,  # top, left
    2: lambda up: up[:, ::-1],  # top, right
    3: lambda up: up[::-1, ::-1],  # bottom, right
    4: lambda up: up[::-1],  # bottom, left
    5: lambda up: up.swapaxes(0, 1),  # left, top
    6: lambda up: up[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda up: up[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda up: up[::-1].swapaxes(0, 1),  # left, bottom
}


def turned(orientation: int, name: str) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(scene()))))
    if name == "JPEG":
        jpeg = encoded(image, "JPEG", quality=100, subsampling=0)
        return with_exif(jpeg, exif_orientation(orientation, "<>"[orientation % 2]))
    if name == "TIFF":
        return encoded(image, "TIFF", tiffinfo={274: orientation})
    exif = b"Exif\x00\x00" + exif_orientation(orientation)
    return encoded(image, name, exif=exif, **({"lossless": True} if name == "WEBP" else {}))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_same_upright_picture(orientation: int, name: str) -> None:
    data = turned(orientation, name)
    header = inspect(data)
    assert (header.width, header.height) == scene().size
    assert np.abs(pixels(data).astype(int) - np.asarray(scene())).max() <= 6 * (name == "JPEG")


def test_an_avif_that_asks_to_be_turned_is_turned() -> None:
    image = Image.fromarray(np.ascontiguousarray(STORED[6](np.asarray(scene()))))
    data = encoded(image, "AVIF", quality=100, exif=b"Exif\x00\x00" + exif_orientation(6))
    assert np.abs(pixels(data).astype(int) - np.asarray(scene())).mean() < 6
    assert (inspect(data).width, inspect(data).height) == scene().size


def test_an_upright_picture_carries_nothing_that_would_turn_it_again() -> None:
    picture = decode(turned(6, "JPEG"))
    assert not picture.rgb.getexif()
    assert picture.rgb.info == {}


@pytest.mark.parametrize("block", [b"", bytes(40), exif_orientation(0), exif_orientation(9)])
def test_an_exif_block_that_says_nothing_leaves_the_picture_as_it_is(block: bytes) -> None:
    jpeg = encoded(scene(), "JPEG")
    assert np.array_equal(pixels(with_exif(jpeg, block)), pixels(jpeg))


def test_an_exif_block_cut_after_its_orientation_still_says_which_way_is_up() -> None:
    block = exif_orientation(6)[:-4].replace(b"\x01\x00\x12\x01", b"\x09\x00\x12\x01", 1)
    header = inspect(with_exif(encoded(scene(), "JPEG"), block))
    assert (header.width, header.height) == scene().size[::-1]


@pytest.mark.parametrize("block", [b"II*\x00\xff\xff\xff\x00", b"XX*\x00\x08\x00\x00\x00", b"II"])
def test_an_exif_block_that_cannot_be_read_is_a_metadata_error(block: bytes) -> None:
    with pytest.raises(PictureError, match="metadata_error"):
        inspect(with_exif(encoded(scene(), "JPEG"), block))


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_an_animation_is_its_first_frame(name: str) -> None:
    plain = [Image.new("RGB", (32, 32), one) for one in ("red", "lime", "blue")]
    data = encoded(plain[0], name, save_all=True, append_images=plain[1:])
    assert inspect(data).n_frames == 3
    assert np.abs(np.subtract(colour(data, (16, 16)), RED)).max() < 8


def test_a_damaged_second_frame_does_not_cost_the_first() -> None:
    plain = [Image.new("RGB", (32, 32), one) for one in ("red", "lime")]
    data = encoded(plain[0], "GIF", save_all=True, append_images=plain[1:])
    assert colour(data[: data.rindex(b",") + 12]) == RED


def photo() -> Image.Image:
    return scene().resize((1000, 750), Image.Resampling.BICUBIC)


def test_a_draft_is_smaller_never_below_twice_the_side_asked_for_and_keeps_the_file_size() -> None:
    data = encoded(photo(), "JPEG", quality=90)
    for side, expected in [(40, 94), (93, 188), (94, 375), (100, 375), (187, 375), (200, 750)]:
        picture = decode(data, shrink_to=side)
        assert min(picture.rgb.size) == expected >= 2 * side
        assert (picture.width, picture.height) == (1000, 750)
    assert decode(data).rgb.size == (1000, 750)


@pytest.mark.parametrize("side", [32, 64, 160])
def test_a_draft_looks_like_the_full_picture_once_resized(side: int) -> None:
    data = encoded(photo(), "JPEG", quality=90)
    small = [
        np.asarray(picture.rgb.resize((side, side), Image.Resampling.BICUBIC)).astype(int)
        for picture in (decode(data), decode(data, shrink_to=side))
    ]
    assert np.abs(small[0] - small[1]).mean() < 1.5


def test_a_draft_stands_upright_too() -> None:
    jpeg = encoded(photo(), "JPEG", quality=90)
    picture = decode(with_exif(jpeg, exif_orientation(6)), shrink_to=64)
    assert picture.rgb.size == (188, 250)
    assert (picture.width, picture.height) == (750, 1000)
