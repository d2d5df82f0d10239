"""Going through the folders below a tree in one order, into links but not round in circles."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from storage.sources.patterns import Pattern
from storage.sources.tree import Entry, Tree

Note = TypeVar("Note")


@dataclass(frozen=True, slots=True)
class Walk(Generic[Note]):
    """The files that `pattern` means, sorted by path components."""

    tree: Tree
    pattern: Pattern
    excluded: str | None
    """The real path of a folder that is left out."""
    look: Callable[[list[Entry]], Note]
    """Called once a folder; what it says goes along with each of the folder's files."""

    def files(self) -> Iterator[tuple[str, Entry, Note]]:
        """Path, entry and the folder's note, for everything that is not a folder."""
        yield from self._below("", (), self.pattern.matcher())

    def _below(
        self, folder: str, chain: tuple[str, ...], means: Callable[[str], bool]
    ) -> Iterator[tuple[str, Entry, Note]]:
        real = self.tree.real(folder)
        if real == self.excluded or real in chain:
            return
        entries = self.tree.entries(folder)
        note = self.look(entries)
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.kind != "folder":
                if means(path):
                    yield path, entry, note
            elif not entry.name.startswith(".") and self.pattern.enters(path):
                yield from self._below(path, (*chain, real), means)


def real_path(url: str) -> str | None:
    """Where `url` lies with links resolved; None for an empty one."""
    return Tree(url).real("") if url else None
