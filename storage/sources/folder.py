"""Pictures in a folder or matched by a glob, with the captions that lie beside them.

Pictures are known by their ending. A `.txt` or `.caption` file of the same stem holds captions,
one a line. Hidden names are passed over; whatever else lies there is counted by its ending.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from storage.ahead import ahead
from storage.errors import ConfigurationError
from storage.sources.item import SourceItem, clean_captions
from storage.sources.patterns import Pattern
from storage.sources.tree import PICTURES, Entry, Tree, ending
from storage.sources.walk import Walk, real_path

SIDECARS = (".txt", ".caption")
_Beside = dict[str, list[str]]
"""Names of caption files, by the stem of the pictures they belong to."""


class FolderSource:
    """The pictures that `pattern` means, but none below the URL `exclude`."""

    kind = "folder"

    def __init__(self, pattern: Pattern, *, exclude: str = "") -> None:
        self._tree = Tree(pattern.base)
        self._walk = Walk(self._tree, pattern, real_path(exclude), _sidecars)
        self.base = self._tree.url
        self.facts = {"kind": self.kind, "source": self._tree.shown(pattern.written)}
        self._counts: Counter[str] = Counter()
        self._tars = ""

    @property
    def counted(self) -> dict[str, int]:
        """Files passed over, by ending, most first."""
        return dict(self._counts.most_common())

    def items(self) -> Iterator[SourceItem]:
        """The pictures in order; ConfigurationError if there is none."""
        self._counts.clear()
        item = None
        for item in ahead(self._captioned, self._pictures(), 0 if self._tree.local else 16):
            yield item
        if item is None:
            raise ConfigurationError(self._why_nothing())

    def read(self, path: str) -> bytes:
        """The picture's bytes."""
        return self._tree.read(path)

    def _pictures(self) -> Iterator[tuple[SourceItem, list[str]]]:
        """Each picture with the paths of its sidecars."""
        for path, entry, beside in self._walk.files():
            sidecars = beside.get(_stem(entry.name), [])
            if _is_picture(entry):
                folder = path.removesuffix(entry.name)
                url = None if self._tree.local else self._tree.shown(path)
                item = SourceItem(path, entry.size, entry.stamp, (), url)
                yield item, [folder + name for name in sidecars]
            elif entry.name not in sidecars:
                self._pass_over(path, entry)

    def _pass_over(self, path: str, entry: Entry) -> None:
        last = ending(entry.name)
        if last == ".tar" and ".tar" not in self._counts:
            self._tars = path.removesuffix(entry.name)
        kind = last if 1 < len(last) <= 12 else "without an ending"
        self._counts["hidden" if entry.name.startswith(".") else kind] += 1

    def _captioned(self, found: tuple[SourceItem, list[str]]) -> SourceItem:
        item, sidecars = found
        lines: list[str] = []
        for path in sidecars:
            try:
                text = self._tree.read(path).decode("utf-8-sig", "replace")
            except FileNotFoundError:
                continue  # it went away, or is not ours to read
            lines += text.splitlines()
        return replace(item, captions=clean_captions(lines)) if lines else item

    def _why_nothing(self) -> str:
        shown = self.facts["source"]
        if self._counts[".tar"]:
            tars = self._tree.shown(f"{self._tars}*.tar")
            return f"SOURCE {shown!r} holds tars, not pictures: give {tars!r} to caption them"
        found = ", ".join(f"{count} {what}" for what, count in self._counts.most_common(5))
        others = f"{self._counts.total()} other files: {found}" if found else "nothing is there"
        return f"SOURCE {shown!r} holds no pictures ({others})"


def _sidecars(entries: list[Entry]) -> _Beside:
    pictures = {_stem(entry.name) for entry in entries if _is_picture(entry)}
    found: _Beside = {}
    for kind in SIDECARS:
        for entry in entries:
            if ending(entry.name) == kind and _stem(entry.name) in pictures:
                found.setdefault(_stem(entry.name), []).append(entry.name)
    return found


def _is_picture(entry: Entry) -> bool:
    known = entry.kind in ("file", "gone") and ending(entry.name) in PICTURES
    return known and not entry.name.startswith(".")


def _stem(name: str) -> str:
    return name.rpartition(".")[0]
