"""A maker of the picture files that break naive pipelines, each with the code it must end with.

Some are damaged, some are lies, and some are good pictures that are often decoded wrongly or
whose names are often mangled: those have the code "". All of them are made by code.
"""

import io
import random
import struct
import tarfile
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

_HEIC_IS_READABLE = find_spec("pillow_heif") is not None


@dataclass(frozen=True)
class Hostile:
    """One file and the error code its row must carry; "" for a picture that must be captioned."""

    path: Path
    code: str = ""


def hostile_files(folder: Path) -> list[Hostile]:
    """Write all of them into `folder`, flat, and say what each one is."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, (code, make) in {**_GOOD, **_BAD}.items():
        path = folder / name
        path.write_bytes(make())
        made.append(Hostile(path, code))
    return made


@cache
def scene(mode: str = "RGB") -> Image.Image:
    """Return a small picture with smooth colour and sharp edges, the same on every call."""
    picture = Image.merge(
        "RGB", [Image.linear_gradient("L").rotate(90 * turn) for turn in range(3)]
    )
    picture = picture.resize((96, 64))
    picture.paste("red", (8, 8, 40, 32))
    picture.paste("blue", (56, 24, 88, 56))
    return picture.convert(mode)


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    """Return the bytes of `image` as a file of format `name`."""
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return one PNG chunk with its right checksum."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(
    width: int, height: int, rows: bytes, *extra: bytes, bits: int = 8, colour: int = 0
) -> bytes:
    """Return a PNG made by hand; `extra` chunks stand between header and pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + pixels + png_chunk(b"IEND", b"")


def webp_canvas(side: int) -> bytes:
    """Return a WebP that claims a square canvas of this side, around a small picture."""
    canvas = (side - 1).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<II", 10, 0) + canvas + encoded(scene(), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def with_exif(jpeg: bytes, exif: bytes) -> bytes:
    """Return `jpeg` with an EXIF segment of exactly these bytes."""
    content = b"Exif\x00\x00" + exif
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def exif_orientation(value: int, order: str = "<") -> bytes:
    """Return an EXIF block that holds an orientation and nothing else."""
    mark = {"<": b"II", ">": b"MM"}[order]
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, value, 0)
    return mark + struct.pack(order + "HIH", 42, 8, 1) + entry + struct.pack(order + "I", 0)


@cache
def _jpeg() -> bytes:
    return encoded(scene(), "JPEG", quality=90)


@cache
def _png() -> bytes:
    return encoded(scene(), "PNG")


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _palette_with_transparency() -> bytes:
    return encoded(scene().quantize(16), "PNG", transparency=0)


def _animation(name: str) -> bytes:
    frames = [scene().rotate(turn).convert("RGB") for turn in (90, 180)]
    return encoded(scene(), name, save_all=True, append_images=frames)


def _bad_checksum() -> bytes:
    data = _png()
    return _patched(data, data.index(b"IDAT") + 40, b"\x00\xff\x00\xff")


def _bad_zlib() -> bytes:
    """A PNG whose checksums are right and whose compressed stream is not."""
    rows = zlib.compress(bytes(97 * 64), 9)
    pixels = png_chunk(b"IDAT", rows[:4] + b"\xff" * 8 + rows[12:])
    data = png(96, 64, b"")
    start, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    return data[:start] + pixels + data[end:]


def _text_bomb() -> bytes:
    text = b"Comment\x00\x00" + zlib.compress(bytes(20_000_000), 9)
    return png(96, 64, bytes(97 * 64), png_chunk(b"zTXt", text))


def _bad_text() -> bytes:
    text = png_chunk(b"tEXt", b"Comment\x00a text")
    return png(96, 64, bytes(97 * 64), text[:-1] + b"?")


def _heic() -> bytes:
    return struct.pack(">I", 24) + b"ftypheic\x00\x00\x00\x00mif1heic" + b"\x00\x00\x00\x08free"


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo("a.jpg")
        member.size = len(_jpeg())
        tar.addfile(member, io.BytesIO(_jpeg()))
    return file.getvalue()


def _huge_gif() -> bytes:
    data = encoded(scene().quantize(16), "GIF")
    return _patched(data, 6, struct.pack("<HH", 65535, 65535))


def _lying_bmp() -> bytes:
    return _patched(encoded(scene(), "BMP"), 18, struct.pack("<ii", 10_000, 10_000))


def _mpo() -> bytes:
    return encoded(scene(), "MPO", save_all=True, append_images=[scene().rotate(180)])


def _noise_after_header() -> bytes:
    noise = random.Random(7).randbytes(3000)
    data = _jpeg()
    scan = data.index(b"\xff\xc4")
    return data[:scan] + noise.replace(b"\xff", b"\x00") + b"\xff\xd9"


_E_ACUTE = "caf\u00e9"
_Recipe = tuple[str, Callable[[], bytes]]
_GOOD: dict[str, _Recipe] = {
    "cmyk.jpg": ("", lambda: encoded(scene("CMYK"), "JPEG")),
    "grey16.png": ("", lambda: encoded(scene("L").convert("I;16"), "PNG")),
    "grey16.tif": ("", lambda: encoded(scene("L").convert("I;16"), "TIFF")),
    "int32.tif": ("", lambda: encoded(scene("I"), "TIFF")),
    "float.tiff": ("", lambda: encoded(scene("F"), "TIFF")),
    "bilevel.png": ("", lambda: encoded(scene("1"), "PNG")),
    "bilevel-fax.tif": ("", lambda: encoded(scene("1"), "TIFF", compression="group4")),
    "grey-alpha.png": ("", lambda: encoded(scene("LA"), "PNG")),
    "palette-transparent.png": ("", _palette_with_transparency),
    "animated.gif": ("", lambda: _animation("GIF")),
    "animated.webp": ("", lambda: _animation("WEBP")),
    "animated.png": ("", lambda: _animation("PNG")),
    "pages.tif": ("", lambda: _animation("TIFF")),
    "two-pictures-mpo.jpg": ("", _mpo),
    "no-trailer.gif": ("", lambda: encoded(scene(), "GIF")[:-1]),
    "rotated.jpg": ("", lambda: with_exif(_jpeg(), exif_orientation(6))),
    "progressive.jpg": ("", lambda: encoded(scene(), "JPEG", progressive=True)),
    "good.avif": ("", lambda: encoded(scene(), "AVIF")),
    "jpeg-named-png.png": ("", _jpeg),
    "UPPER.JPG": ("", _jpeg),
    "name with spaces.jpg": ("", _jpeg),
    "name.with.dots.v2.jpg": ("", _jpeg),
    "brackets [1] {a,b} 100% #1.jpg": ("", _jpeg),
    unicodedata.normalize("NFC", _E_ACUTE) + ".jpg": ("", _jpeg),
    unicodedata.normalize("NFD", _E_ACUTE) + ".jpg": ("", _png),
    "猫と犬 🐈.png": ("", _png),
    "long-" + "x" * 191 + ".jpg": ("", _jpeg),
}
_BAD: dict[str, _Recipe] = {
    "zero-bytes.jpg": ("empty", bytes),
    "text.jpg": ("not_image", lambda: b"This is not a picture.\n" * 20),
    "page.png": ("not_image", lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>"),
    "archive.jpg": ("not_image", _tar),
    "document.jpg": ("not_image", lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"),
    "zeros.png": ("not_image", lambda: bytes(4096)),
    "bmw.bmp": ("not_image", lambda: b"BMW is a maker of cars, and this is a text."),
    "postscript.png": ("unsupported_format", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%EOF\n"),
    "vector.png": (
        "unsupported_format",
        lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    ),
    "layers.png": ("unsupported_format", lambda: b"8BPS\x00\x01" + bytes(40)),
    "phone.png": ("corrupt" if _HEIC_IS_READABLE else "unsupported_format", _heic),
    "icon.png": ("unsupported_format", lambda: encoded(scene(), "ICO")),
    "plain.jpg": ("unsupported_format", lambda: encoded(scene(), "PPM")),
    "truncated.jpg": ("truncated", lambda: _half(_jpeg())),
    "one-byte-short.jpg": ("truncated", lambda: _jpeg()[:-1]),
    "truncated.png": ("truncated", lambda: _half(_png())),
    "signature-only.png": ("truncated", lambda: _png()[:8]),
    "truncated.webp": ("truncated", lambda: _half(encoded(scene(), "WEBP"))),
    "truncated.gif": ("truncated", lambda: _half(encoded(scene(), "GIF"))),
    "truncated.tif": ("truncated", lambda: _half(encoded(scene(), "TIFF"))),
    "truncated.avif": ("truncated", lambda: _half(encoded(scene(), "AVIF"))),
    "lying-header.bmp": ("truncated", _lying_bmp),
    "bad-checksum.png": ("corrupt", _bad_checksum),
    "bad-zlib.png": ("corrupt", _bad_zlib),
    "zero-width.png": ("corrupt", lambda: png(0, 64, bytes(64))),
    "noise.jpg": ("corrupt", _noise_after_header),
    "strip-1x20000.png": ("bad_aspect", lambda: png(1, 20_000, bytes(40_000))),
    "strip-20000x1.png": ("bad_aspect", lambda: png(20_000, 1, bytes(20_001))),
    "400-megapixels.png": ("too_large", lambda: png(20_000, 20_000, bytes(50_020_000), bits=1)),
    "4-gigapixels.gif": ("too_large", _huge_gif),
    "268-megapixels.webp": ("too_large", lambda: webp_canvas(16_384)),
    "bad-exif.jpg": ("metadata_error", lambda: with_exif(_jpeg(), b"no such byte order")),
    "bad-text-checksum.png": ("metadata_error", _bad_text),
    "text-bomb.png": ("metadata_error", _text_bomb),
}
