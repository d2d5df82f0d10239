"""The directory of tags that TIFF files and EXIF blocks share, read without trusting it.

Pillow's reader warns, guesses and raises a dozen kinds of exception; captioning needs three
facts only: which way is up, where the pixels should lie, and how many pages there are.
Source: TIFF 6.0, section 2 (image file directory); EXIF 2.32, section 4.6 (orientation).
"""

import struct
from dataclasses import dataclass

from captioner.errors import PictureError

ORIENTATION = 0x0112
_OFFSETS_AND_COUNTS = ((273, 279), (324, 325))  # of strips, of tiles
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # BYTE, SHORT, LONG, LONG8
_MAX_PAGES = 10_000


@dataclass(frozen=True, slots=True)
class _Layout:
    """How one file writes its numbers: classic TIFF or BigTIFF, either byte order."""

    order: str
    number: str
    entry_count: str
    first: int

    @classmethod
    def of(cls, data: bytes) -> "_Layout":
        order = {b"II": "<", b"MM": ">"}.get(data[:2])
        if order is None:
            raise struct.error("neither II nor MM")
        (version,) = struct.unpack_from(order + "H", data, 2)
        if version not in {42, 43}:
            raise struct.error(f"version {version}, expected 42 or 43")
        number, entry_count, at = ("I", "H", 4) if version == 42 else ("Q", "Q", 8)
        (first,) = struct.unpack_from(order + number, data, at)
        return cls(order, number, entry_count, first)

    @property
    def entry(self) -> struct.Struct:
        return struct.Struct(f"{self.order}HH{self.number}")

    @property
    def inline(self) -> int:
        """Bytes of a value that fit into its entry."""
        return struct.calcsize(self.order + self.number)


def orientation(block: bytes) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where the block is silent.

    Raises PictureError `metadata_error` if the block cannot be read that far: nobody knows
    then which way is up. Damage behind the entry does not matter.
    """
    block = block.removeprefix(b"Exif\x00\x00")
    if not block.strip(b"\x00"):
        return 1
    try:
        layout = _Layout.of(block)
        value = _integers(block, layout, layout.first, {ORIENTATION}).get(ORIENTATION, (1,))
    except struct.error as error:
        sentence = f"the EXIF block cannot be read, so which way is up is unknown: {error}"
        raise PictureError("metadata_error", sentence) from error
    return value[0] if value and 1 <= value[0] <= 8 else 1


def tiff_ends_early(data: bytes) -> bool:
    """Tell whether the first page's strips or tiles lie, in part, beyond the end of the file."""
    layout = _Layout.of(data)
    if layout.first >= len(data):
        return True
    wanted = {tag for pair in _OFFSETS_AND_COUNTS for tag in pair}
    tags = _integers(data, layout, layout.first, wanted)
    return any(
        offset + count > len(data)
        for offsets, counts in _OFFSETS_AND_COUNTS
        for offset, count in zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
    )


def tiff_pages(data: bytes) -> int:
    """Count the pages of a TIFF; a broken chain of directories ends the count."""
    seen: set[int] = set()
    try:
        layout = _Layout.of(data)
        at = layout.first
        while at and at not in seen and len(seen) < _MAX_PAGES:
            start, stop, _ = _entries(data, layout, at)
            seen.add(at)
            (at,) = struct.unpack_from(layout.order + layout.number, data, max(start, stop))
    except struct.error:
        pass
    return max(1, len(seen))


def _entries(data: bytes, layout: _Layout, at: int) -> tuple[int, int, int]:
    (count,) = struct.unpack_from(layout.order + layout.entry_count, data, at)
    start = at + struct.calcsize(layout.order + layout.entry_count)
    step = layout.entry.size + layout.inline
    return start, start + count * step, step


def _integers(
    data: bytes, layout: _Layout, at: int, wanted: set[int]
) -> dict[int, tuple[int, ...]]:
    """Read the wanted integer tags of one directory; struct.error where it is cut short."""
    found: dict[int, tuple[int, ...]] = {}
    start, stop, step = _entries(data, layout, at)
    for position in range(start, stop, step):
        tag, kind, count = layout.entry.unpack_from(data, position)
        if tag not in wanted or kind not in _INTEGERS:
            continue
        value = struct.calcsize(layout.order + _INTEGERS[kind]) * count
        place = position + layout.entry.size
        if value > layout.inline:
            (place,) = struct.unpack_from(layout.order + layout.number, data, place)
        if place + value > len(data):
            raise struct.error(f"the values of tag {tag} lie beyond the end")
        found[tag] = struct.unpack_from(f"{layout.order}{count}{_INTEGERS[kind]}", data, place)
        if found.keys() == wanted:
            break
    return found
