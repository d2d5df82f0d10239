"""Pictures that a table names: CSV, TSV, `|`-separated, JSON lines, Parquet, or COCO's JSON.

Which column holds paths and which captions is told by name or by option. Rows that name one path
are one picture with several captions, in the order of the rows. A path that leads nowhere is no
error here: its picture ends as a row that says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from storage.errors import ConfigurationError
from storage.sources.annotations import ENDING, AnnotationRows
from storage.sources.item import SourceItem, clean_captions
from storage.sources.rows import TableRow, TableRows
from storage.sources.table_file import TABLE_ENDINGS as TEXT_ENDINGS
from storage.sources.tree import Entry, Tree
from storage.urls import redact

__all__ = ["TABLE_ENDINGS", "TableOptions", "TableSource"]

TABLE_ENDINGS = (*TEXT_ENDINGS, ENDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """How to read a table whose own names do not say enough."""

    images: str = ""
    """Folder that paths are relative to; give it where that is not the table's own."""
    path_column: str = ""
    """Column of paths; give it where none has a usual name (path, image, file_name, …)."""
    caption_columns: tuple[str, ...] = ()
    """Columns of captions; give them where none, or the wrong one, has a usual name."""
    splits: tuple[str, ...] = ()
    """Splits of a Karpathy document to take; empty takes all."""


class Rows(Protocol):
    """What a table says, whatever it is written in."""

    facts: dict[str, str]
    """What of its reading tells two sources apart."""
    counted: dict[str, int]
    """What was passed over, by what it was; complete once `sorted` has ended."""

    def first_path(self) -> str:
        """The path of the first row that has one; ConfigurationError if none has."""

    def sorted(self, base: str) -> Iterator[TableRow]:
        """The rows that name a path, by path components, then as they stand.

        `base` is taken off absolute paths that begin with it.
        """


class TableSource:
    """The pictures that the table at `source` names."""

    kind = "table"

    def __init__(self, source: str, options: TableOptions) -> None:
        url, slash, _ = Tree(source).url.rpartition("/")
        self._tree = Tree(options.images or url or slash)
        if self._tree.kind("") != "folder":
            raise ConfigurationError(f"no folder of pictures at {self._tree.shown('')!r}")
        self._rows = _rows(source, options)
        self._listed: dict[str, dict[str, Entry]] = {}
        self.base = self._tree.url
        self.counted: dict[str, int] = {}
        self.facts = {
            "kind": self.kind,
            "source": redact(Tree(source).url),
            "images": self._tree.shown(""),
            **self._rows.facts,
        }

    def items(self) -> Iterator[SourceItem]:
        """The pictures in order; ConfigurationError if none of them is there."""
        self._check_path(self._rows.first_path())
        named = there = 0
        rows = self._rows.sorted(self.base.rstrip("/") + "/")
        for path, same in groupby(rows, key=lambda row: row.path):
            found = list(same)
            entry = self._entry(path)
            named, there = named + 1, there + bool(entry)
            url = next((row.url for row in found if row.url), None)
            if not url and not self._tree.local:
                url = self._tree.shown(path)
            captions = clean_captions([text for row in found for text in row.captions])
            size, stamp = (entry.size, entry.stamp) if entry else (0, "")
            yield SourceItem(path, size, stamp, captions, redact(url) if url else None)
        self.counted = dict(self._rows.counted)
        if not there:
            raise ConfigurationError(
                f"none of the {named} pictures named by {self.facts['source']!r} is in "
                f"{self.base!r}: give their folder with --images"
            )

    def read(self, path: str) -> bytes:
        """The picture's bytes; FileNotFoundError also for a path that leaves the base."""
        if not _inside(path):
            raise FileNotFoundError("its path leads out of the folder of pictures")
        return self._tree.read(path)

    def _entry(self, path: str) -> Entry | None:
        """What the folder of `path` says of it; few folders are kept, as paths come sorted."""
        if not _inside(path):
            return None
        folder, _, name = path.rpartition("/")
        if folder not in self._listed:
            while len(self._listed) >= 8:
                del self._listed[next(iter(self._listed))]
            listed = self._tree.entries(folder)
            self._listed[folder] = {entry.name: entry for entry in listed if entry.kind == "file"}
        return self._listed[folder].get(name)

    def _check_path(self, path: str) -> None:
        """Tell at once what would make every row fail."""
        if path.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"{self.facts['source']!r} names web addresses ({redact(path)!r}): fetch them with "
                "img2dataset first and give its tars"
            )
        if not _inside(path.removeprefix(self.base.rstrip("/") + "/")):
            raise ConfigurationError(
                f"{self.facts['source']!r} names {redact(path)!r}, which is not in {self.base!r}: "
                "give the folder of pictures with --images"
            )


def _rows(source: str, options: TableOptions) -> Rows:
    if source.lower().endswith(ENDING):
        return AnnotationRows(source, options.splits)
    return TableRows(source, options.path_column, options.caption_columns)


def _inside(path: str) -> bool:
    return not path.startswith("/") and "://" not in path and ".." not in path.split("/")
