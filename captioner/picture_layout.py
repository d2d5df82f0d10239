"""How picture files are laid out: whether the data ends early, and what its checksums say.

Truncated and corrupt are told apart by the file's own structure, never by the words of a
decoder's error. Nothing here decodes a pixel.
Source: the PNG, GIF89a, WebP, JPEG (ITU T.81 annex B) and ISO 14496-12 specifications.
"""

import re
import struct
from collections.abc import Iterator
from zlib import crc32

from captioner.errors import PictureError
from captioner.picture_ifd import tiff_ends_early

_PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_MAX_PNG_CHUNK = 2**31 - 1
_JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")  # those that open a segment, and the end


def ends_early(data: bytes, name: str) -> bool:
    """Tell whether the first picture of a file of format `name` is cut short.

    False for a file whose structure makes no sense: that one is corrupt.
    """
    looks = {
        "JPEG": _jpeg_ends_early,
        "PNG": _png_ends_early,
        "WEBP": _webp_ends_early,
        "GIF": _gif_ends_early,
        "BMP": _bmp_ends_early,
        "TIFF": tiff_ends_early,
        "AVIF": _boxes_end_early,
        "HEIF": _boxes_end_early,
    }
    try:
        return looks[name](data)
    except (struct.error, IndexError):  # the structure itself is cut
        return True


def check_png(data: bytes, *, header_only: bool) -> None:
    """Verify the checksums of a PNG, which Pillow skips for pixel data.

    Raises PictureError `corrupt` for the chunks that make the picture and `metadata_error` for
    the rest before it. Pillow and libpng ignore what follows the pixels, and so do we.
    """
    before_pixels = True
    for kind, start, stop in _png_chunks(data):
        before_pixels = before_pixels and kind != b"IDAT"
        if header_only and not before_pixels:
            return
        makes_picture = kind in _PNG_PIXELS
        if not makes_picture and not before_pixels:
            continue
        (expected,) = struct.unpack_from(">I", data, stop)
        if crc32(memoryview(data)[start - 4 : stop]) != expected:
            code = "corrupt" if makes_picture else "metadata_error"
            raise PictureError(code, f"the checksum of PNG chunk {kind.decode()} is wrong")


def png_exif(data: bytes) -> bytes:
    """Return the EXIF block of a PNG, which may follow the pixels; empty if there is none."""
    try:
        chunks = _png_chunks(data)
        return next((data[start:stop] for kind, start, stop in chunks if kind == b"eXIf"), b"")
    except struct.error:  # cut: what came before the cut held none
        return b""


def webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a WebP; its decoder would allocate the canvas to tell us."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = data[24:27], data[27:30]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise PictureError("corrupt", "the WebP holds no picture chunk")


def gif_frames(data: bytes) -> int:
    """Count the whole frames of a GIF, without decoding any."""
    return sum(1 for whole in _gif_images(data) if whole)


def _jpeg_ends_early(data: bytes) -> bool:
    """Walk the segments to the first scan, whose coded data cannot hold an end marker."""
    at = 2
    while marker := _JPEG_MARKER.search(data, at):
        if marker[0] in {b"\xff\xd9", b"\xff\xda"}:
            return data.find(b"\xff\xd9", marker.start()) < 0
        (length,) = struct.unpack_from(">H", data, marker.end())
        at = marker.end() + max(length, 2)
    return True


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and stop of each whole chunk's content, up to and with IEND."""
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        if length > _MAX_PNG_CHUNK or not kind.isalpha():
            raise PictureError("corrupt", "the PNG's chunks make no sense")
        start, at = at + 8, at + 12 + length
        if at > len(data):
            raise struct.error("cut inside a chunk")
        yield kind, start, start + length


def _png_ends_early(data: bytes) -> bool:
    try:
        for _ in _png_chunks(data):
            pass
    except PictureError:
        pass
    return False


def _webp_ends_early(data: bytes) -> bool:
    (size,) = struct.unpack_from("<I", data, 4)
    return 8 + int(size) > len(data)


def _gif_images(data: bytes) -> Iterator[bool]:
    """Yield True for each frame that is whole, False for the one where the data ends."""
    at = 13 + _gif_palette(data[10])
    while at < len(data) and (kind := data[at : at + 1]) in b"!,":
        if kind == b",":
            if at + 10 > len(data):
                break
            at += 11 + _gif_palette(data[at + 9])
        else:
            at += 2
        while data[at : at + 1] not in {b"", b"\x00"}:  # the sub-blocks, until an empty one
            at += 1 + data[at]
        if kind == b"," and at < len(data):
            yield True
        at += 1
    if at >= len(data):
        yield False


def _gif_palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_ends_early(data: bytes) -> bool:
    return not next(_gif_images(data), True)


def _bmp_ends_early(data: bytes) -> bool:
    offset, header = struct.unpack_from("<II", data, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packing = 0
    else:
        width, height, _, bits, packing = struct.unpack_from("<iiHHI", data, 18)
    if packing not in {0, 3, 6}:  # run lengths: only its decoder can say
        return False
    used = (width * bits + 7) // 8
    stride = (width * bits + 31) // 32 * 4
    return bool(offset + stride * (abs(height) - 1) + used > len(data))


def _boxes_end_early(data: bytes) -> bool:
    at = 0
    while at < len(data):
        size, _ = struct.unpack_from(">I4s", data, at)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
        if size < 8:  # 0: to the end of the file; otherwise nonsense
            return False
        at += size
    return at > len(data)
