"""Tars that others cut, named by a brace pattern or glob and used where they lie."""

from collections.abc import Iterator

from storage.errors import ConfigurationError
from storage.sources.item import SourceItem, path_order
from storage.sources.patterns import Pattern, has_glob, parse_pattern
from storage.sources.tree import Entry, Tree, ending
from storage.sources.walk import Walk, real_path
from storage.tar_stream import check_head
from storage.urls import join, redact

_PACKED_ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def names_tars(source: str) -> bool:
    """Whether `source` is a tar or a pattern of tars."""
    return source.lower().endswith((".tar", ".tar}", *_PACKED_ENDINGS))


class TarsSource:
    """One item a tar; its pictures are found when its shard is made."""

    kind = "tars"

    def __init__(self, source: str, *, exclude: str = "") -> None:
        if source.lower().endswith(_PACKED_ENDINGS):
            raise ConfigurationError(
                f"SOURCE {redact(source)!r} is compressed: unpack it to plain .tar files first"
            )
        self._pattern = parse_pattern(source)
        self._tree = Tree(self._pattern.base)
        self._excluded = real_path(exclude)
        self.base = self._tree.url
        self.counted: dict[str, int] = {}
        self.facts = {"kind": self.kind, "source": self._tree.shown(self._pattern.written)}
        self._check(next(self.items()).path)

    def items(self) -> Iterator[SourceItem]:
        """The tars in order, `url` absolute; ConfigurationError if one named is not there."""
        found = dict([*self._named(), *self._globbed()])
        if not found:
            raise ConfigurationError(f"SOURCE {self.facts['source']!r} names no tar that exists")
        for path in sorted(found, key=path_order):
            entry = found[path]
            yield SourceItem(path, entry.size, entry.stamp, (), join(self.base, path))

    def read(self, path: str) -> bytes:
        """A whole tar; its shard reads it as a stream instead."""
        return self._tree.read(path)

    def _named(self) -> Iterator[tuple[str, Entry]]:
        names = [name for name in self._pattern.alternatives if not has_glob(name)]
        folders: dict[str, dict[str, Entry]] = {}
        missing = []
        for name in names:
            folder, _, last = name.rpartition("/")
            if folder not in folders:
                listed = self._tree.entries(folder)
                folders[folder] = {entry.name: entry for entry in listed if entry.kind == "file"}
            if entry := folders[folder].get(last):
                yield name, entry
            else:
                missing.append(name)
        if missing:
            raise ConfigurationError(
                f"{len(missing)} of the {len(names)} tars of SOURCE {self.facts['source']!r} "
                f"do not exist, the first is {missing[0]!r}"
            )

    def _globbed(self) -> Iterator[tuple[str, Entry]]:
        globs = tuple(name for name in self._pattern.alternatives if has_glob(name))
        if globs:
            pattern = Pattern(self._pattern.base, globs)
            walk = Walk(self._tree, pattern, self._excluded, lambda _: None)
            for path, entry, _ in walk.files():
                if entry.kind == "file" and ending(path) == ".tar":
                    yield path, entry

    def _check(self, path: str) -> None:
        if problem := check_head(self._tree.head(path)):
            raise ConfigurationError(f"SOURCE: {self._tree.shown(path)!r} {problem}")
