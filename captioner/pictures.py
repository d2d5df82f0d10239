"""From the bytes of a picture file to upright RGB on white, strictly and within bounds.

Whatever is wrong with a picture comes out as one PictureError with a code from the closed
list; it does not know files, rows or tensors. Safe to call from many threads.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO

import imagehash
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

from captioner.errors import PictureError
from captioner.picture_colours import to_rgb
from captioner.picture_formats import sniff
from captioner.picture_ifd import orientation, tiff_pages
from captioner.picture_layout import check_png, ends_early, gif_frames, png_exif, webp_size
from captioner.picture_limits import DEFAULT_LIMITS, PictureLimits

__all__ = ["Header", "Picture", "PictureLimits", "decode", "inspect", "phash"]

_UPRIGHT = {  # EXIF 2.32, section 4.6: what undoes each orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = 5  # from here on, width and height change places
_DRAFT_ROOM = 2  # a draft keeps twice the side asked for, so that the final resize still filters
_HASHED = (32, 32)
_HASH_GAP = 3.0  # the averages are three times larger than what becomes of them, or more

# Each plugin is called by itself: Image.open would also try others, and would judge size by a
# limit that the whole process shares. JpegImageFile, unlike Image.open, takes an MPO as JPEG.
_PLUGINS: dict[str, Callable[[BytesIO], ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "HEIF": lambda file: import_module("pillow_heif.as_plugin").HeifImageFile(file),
}

_ENDS_EARLY = "the {} data ends early"
_SILENT = [
    ("ignore", None, category, re.compile(r"PIL\."), 0)
    for category in (UserWarning, Image.DecompressionBombWarning)
]


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture says of itself; sizes in pixels, once it stands upright."""

    width: int
    height: int
    format: str
    n_frames: int


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture; `width` and `height` are the file's, upright, before any draft."""

    rgb: Image.Image
    width: int
    height: int
    format: str


def inspect(data: bytes, limits: PictureLimits = DEFAULT_LIMITS) -> Header:
    """Judge a picture by its header alone: nothing is decoded, nothing large allocated.

    Raises PictureError; a picture that passes may still prove truncated or corrupt.
    """
    with _door(data):
        name = _admit(data, limits)
        image, turn = _open(data, name, limits)
        width, height = _upright_size(image, turn)
        return Header(width, height, name, _frames(data, name, image))


def decode(
    data: bytes, limits: PictureLimits = DEFAULT_LIMITS, *, shrink_to: int | None = None
) -> Picture:
    """Return the first frame, upright, 8-bit RGB, on white.

    `shrink_to` is the short side in pixels that the caller will resize to: a JPEG may then be
    decoded at a half, a quarter or an eighth, never below twice that side. Raises PictureError.
    """
    with _door(data):
        name = _admit(data, limits)
        image, turn = _open(data, name, limits)
        if ends_early(data, name):
            raise PictureError("truncated", _ENDS_EARLY.format(name))
        if name == "PNG":
            check_png(data, header_only=False)
        width, height = _upright_size(image, turn)
        if shrink_to is not None and name == "JPEG":
            image.draft("RGB", (_DRAFT_ROOM * shrink_to,) * 2)
        image.load()
        rgb = to_rgb(image)
        image.close()  # its memory is not waited for
        upright = rgb.transpose(_UPRIGHT[turn]) if turn in _UPRIGHT else rgb
        upright.info = {}  # no EXIF is left for another library to turn it by once more
        return Picture(upright, width, height, name)


def phash(picture: Picture) -> int:
    """Return a 64-bit perceptual hash: near-duplicates differ in few bits.

    ImageHash's `phash` of the picture in grey at 32x32, which is made in two steps: whole pixels
    are averaged first. Against its own one step, which costs more than decoding, a bit or two
    of a picture may differ.
    """
    grey = picture.rgb.convert("L")
    small = grey.resize(_HASHED, Image.Resampling.LANCZOS, reducing_gap=_HASH_GAP)
    return int(str(imagehash.phash(small)), 16)


@contextmanager
def _door(data: bytes) -> Iterator[None]:
    """Let nothing but PictureError out, whatever an image library raises."""
    _silence_pillow()
    try:
        yield
    except PictureError:
        raise
    except MemoryError as error:
        raise PictureError("out_of_memory", "not enough memory to decode it") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError("too_large", _clean(error)) from error
    # The one broad except: image libraries raise nearly anything on damaged input
    # (struct.error, SyntaxError, RuntimeError, ZeroDivisionError, UnicodeDecodeError...).
    except Exception as error:
        name = sniff(data)
        if ends_early(data, name):
            raise PictureError("truncated", _ENDS_EARLY.format(name)) from error
        raise PictureError("corrupt", f"{name}: {_clean(error)}") from error


def _silence_pillow() -> None:
    """Keep Pillow's warnings from deciding anything, under whatever filters the process runs.

    Putting two filters in front once more is safe among threads; `catch_warnings` is not.
    """
    if warnings.filters[: len(_SILENT)] != _SILENT:
        for _, _, category, module, _ in reversed(_SILENT):
            warnings.filterwarnings("ignore", category=category, module=module.pattern)


def _clean(error: Exception) -> str:
    """Say what an image library said, in one line without addresses and paths."""
    text = re.sub(r"<[^<>]* at 0x[0-9a-fA-F]+>|0x[0-9a-fA-F]{6,}", "…", str(error))
    text = re.sub(r"(?:[A-Za-z]:\\|/)\w[^\s'\"]*", "…", text)
    text = "".join(c if c.isprintable() else " " for c in text)
    return f"{type(error).__name__}: {' '.join(text.split())}"[:200]


def _admit(data: bytes, limits: PictureLimits) -> str:
    limits.check_bytes(len(data))
    name = sniff(data)
    if name == "WEBP":
        limits.check_size(*webp_size(data))
    if name == "PNG":
        check_png(data, header_only=True)
    return name


def _open(data: bytes, name: str, limits: PictureLimits) -> tuple[ImageFile, int]:
    """Read the header; return the picture, not yet decoded, and how it must be turned."""
    try:
        image = _PLUGINS[name](BytesIO(data))
    except ValueError as error:
        if name != "PNG":
            raise
        # its pixels' chunks passed check_png: this is Pillow's guard against text bombs
        raise PictureError("metadata_error", _clean(error)) from error
    limits.check_size(*image.size)
    # a TIFF has no such block: Pillow turns it by itself, and has its size upright already
    exif = png_exif(data) if name == "PNG" else image.info.get("exif") or b""
    return image, orientation(exif)


def _upright_size(image: ImageFile, turn: int) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if turn >= _SIDEWAYS else (width, height)


def _frames(data: bytes, name: str, image: ImageFile) -> int:
    if name == "GIF":
        return max(1, gif_frames(data))
    if name == "TIFF":
        return tiff_pages(data)
    return int(getattr(image, "n_frames", 1))
