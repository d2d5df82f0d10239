"""Any decoded picture, whatever its mode, as 8-bit RGB on white: scaled, never clipped.

Colour profiles are ignored, as they were when CLIP was trained.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 258, 262, 339
_WHITE_POINTS = (255.0, 65535.0)
_BAND_PIXELS = 4_000_000  # wide numbers are scaled band by band, to need little memory at once


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded picture in mode RGB; transparent parts become white.

    16-bit grey is divided by 257 and rounded. 32-bit integers and floats carry no white point:
    see `_stretched`. Of 16-bit colour Pillow keeps the high byte.
    """
    if image.mode.startswith("I;16"):
        return _deep_grey(image)
    if image.mode in {"I", "F"}:
        unsigned = image.mode == "I" and _tag(image, _TIFF_SAMPLE_FORMAT, 1) == 1
        values = np.asarray(image)
        return _grey_to_rgb(image, _stretched(values.view(np.uint32) if unsigned else values))
    if image.has_transparency_data:
        return _on_white(_with_alpha(image))
    return image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    white = 2 ** _tag(image, _TIFF_BITS, 16) - 1  # a TIFF may hold 12 bits
    levels = (np.arange(65536, dtype=np.uint32).clip(max=white) * 255 + white // 2) // white
    values = np.asarray(image)
    rgb = _grey_to_rgb(image, levels.astype(np.uint8)[values])
    hidden = image.info.get("transparency")
    if hidden is not None:
        rgb.paste("white", mask=Image.fromarray(values == hidden))
    return rgb


def _stretched(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale numbers of unknown meaning to 0..255; NaN and infinity become black.

    The white point is 1 for floats within 0..1, else 255 or 65535 where all values lie within
    it, as 8- and 16-bit pictures stored in wider numbers do; else black is the least value
    and white the greatest.
    """
    bands = np.array_split(values, values.size // _BAND_PIXELS + 1)
    black = min(_finite(band).min(initial=np.inf) for band in bands)
    white = max(_finite(band).max(initial=-np.inf) for band in bands)
    usual = (1.0, *_WHITE_POINTS) if values.dtype.kind == "f" else _WHITE_POINTS
    if black >= 0 and white <= usual[-1]:
        black, white = 0.0, next(point for point in usual if white <= point)
    return np.concatenate([_levels(band, black, white) for band in bands])


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    finite: NDArray[np.float64] = values[np.isfinite(values)].astype(np.float64)
    return finite


def _levels(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    finite = np.isfinite(values)
    above_black = np.where(finite, values, black).astype(np.float64) - black
    levels = np.rint(above_black * 255.0 / ((white - black) or 1.0))
    return np.where(finite, levels, 0).astype(np.uint8)


def _grey_to_rgb(image: Image.Image, grey: NDArray[np.uint8]) -> Image.Image:
    inverted = _tag(image, _TIFF_PHOTOMETRIC, 1) == 0  # white is zero
    return Image.fromarray(255 - grey if inverted else grey).convert("RGB")


def _with_alpha(image: Image.Image) -> Image.Image:
    hidden = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(hidden, tuple) and max(hidden) > 255:
        image.info["transparency"] = tuple(level >> 8 for level in hidden)  # 16-bit, as above
    if image.mode == "La":  # Pillow leaves grey with premultiplied alpha only by way of LA
        image = image.convert("LA")
    return image.convert("RGBA")


def _on_white(rgba: Image.Image) -> Image.Image:
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _tag(image: Image.Image, tag: int, default: int) -> int:
    """Return the first value of a TIFF tag; of other formats the default."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)
