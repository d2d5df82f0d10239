"""More files that are no pictures, or not all of one, each with the code it must end with."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from hostile import Hostile, encoded, png, png_chunk, scene


def more_hostile_files(folder: Path) -> list[Hostile]:
    """Write all of them into `folder`, and say what each one is."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, (code, make) in _MORE.items():
        (folder / name).write_bytes(make())
        made.append(Hostile(folder / name, code))
    return made


def _with(name: str, at: int, new: bytes) -> bytes:
    data = encoded(scene().quantize(16) if name == "GIF" else scene(), name)
    return data[:at] + new + data[at + len(new) :]


def _archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jpg", encoded(scene(), "JPEG"))
    return file.getvalue()


def _no_pixels() -> bytes:
    data = png(96, 64, b"")
    return data[: data.index(b"IDAT") - 4] + png_chunk(b"IEND", b"")


_MORE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "archive.jpg": ("not_image", _archive),
    "document.jpg": ("not_image", lambda: b"%PDF-1.7\n" + bytes(200)),
    "program.png": ("not_image", lambda: b"\x7fELF\x02\x01\x01" + bytes(60)),
    "film.jpg": ("not_image", lambda: b"\x00\x00\x00\x18ftypmp42" + bytes(40)),
    "gzip.png": ("not_image", lambda: b"\x1f\x8b\x08" + bytes(40)),
    "sound.webp": ("not_image", lambda: b"RIFF" + struct.pack("<I", 40) + b"WAVEfmt " + bytes(32)),
    "short-header.bmp": ("not_image", lambda: encoded(scene(), "BMP")[:10]),
    "header-only.jpg": ("truncated", lambda: encoded(scene(), "JPEG")[:20]),
    "header-only.bmp": ("truncated", lambda: encoded(scene(), "BMP")[:54]),
    "no-directory.tif": ("truncated", lambda: _with("TIFF", 4, struct.pack("<I", 0x7FFFFFFF))),
    "no-frames.gif": ("truncated", lambda: _with("GIF", 0, b"")[:13] + b";"),
    "no-pixels.png": ("corrupt", _no_pixels),
    "bad-boxes.avif": ("corrupt", lambda: _with("AVIF", 60, b"\xff" * 60)),
    "tall.gif": ("bad_aspect", lambda: _with("GIF", 6, struct.pack("<HH", 10, 30_000))),
    "wide.bmp": ("bad_aspect", lambda: _with("BMP", 18, struct.pack("<ii", 9000, 10))),
}
