"""Smaller copies of large pictures, for shards that need not keep the original bytes."""

from io import BytesIO

from PIL import Image

from captioner.errors import PictureError
from captioner.picture_limits import DEFAULT_LIMITS, PictureLimits
from captioner.pictures import decode

LOSSY = {"JPEG", "WEBP", "AVIF", "HEIF"}


def shrunk(data: bytes, short_side: int, limits: PictureLimits = DEFAULT_LIMITS) -> bytes:
    """`data` re-encoded with that short side in pixels; unchanged if it is no larger or no picture.

    Upright RGB on white; as JPEG of quality 95 where the original was lossy, else as PNG.
    """
    try:
        picture = decode(data, limits, shrink_to=short_side)
    except PictureError:
        return data  # whoever judges the stored bytes finds out the same
    if min(picture.width, picture.height) <= short_side:
        return data
    factor = short_side / min(picture.width, picture.height)
    size = (round(picture.width * factor), round(picture.height * factor))
    small = picture.rgb.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    out = BytesIO()
    if picture.format in LOSSY:
        small.save(out, "JPEG", quality=95)
    else:
        small.save(out, "PNG")
    return out.getvalue()
