"""Shrinking pictures as shards are cut."""

from io import BytesIO

import pytest
from PIL import Image

from captioner.pictures import inspect
from captioner.resizing import shrunk


def encoded(size: tuple[int, int], kind: str) -> bytes:
    out = BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_large_picture_gets_the_short_side_asked_for(kind: str) -> None:
    header = inspect(shrunk(encoded((600, 400), kind), 100))
    assert (header.width, header.height, header.format) == (150, 100, kind)


def test_a_small_picture_keeps_its_bytes() -> None:
    data = encoded((90, 60), "PNG")
    assert shrunk(data, 100) == data


def test_what_is_no_picture_keeps_its_bytes() -> None:
    assert shrunk(b"no picture", 100) == b"no picture"
