"""Small copies of pictures for a page, whatever the pictures are."""

from io import BytesIO

from PIL import Image

from captioner.errors import PictureError
from captioner.picture_limits import DEFAULT_LIMITS, PictureLimits
from captioner.pictures import decode

SIDE = 200
"""Pixels of the longer side at most."""


def thumbnail(
    data: bytes, side: int = SIDE, limits: PictureLimits = DEFAULT_LIMITS
) -> tuple[bytes, int, int] | None:
    """A JPEG of the picture, never enlarged, with its width and height; None if it is no picture.

    Nothing but pixels is in it: no EXIF, no place, no comment.
    """
    try:
        rgb = decode(data, limits, shrink_to=side).rgb
    except PictureError:
        return None
    rgb.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
    out = BytesIO()
    rgb.save(out, "JPEG", quality=72, optimize=True)
    return out.getvalue(), rgb.width, rgb.height
