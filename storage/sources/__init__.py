"""Where pictures come from: a folder or glob, a table that names them, or tars cut by others.

`open_source` tells which of the three a string means and fails, in one sentence, on what cannot be
one. Listing is sorted by path components and streamed: memory holds one folder, not the collection.
"""

from collections.abc import Iterator
from typing import Protocol

from storage.errors import ConfigurationError
from storage.sources.folder import FolderSource
from storage.sources.item import SourceItem
from storage.sources.patterns import has_magic, parse_pattern, single, whole
from storage.sources.table import TABLE_ENDINGS, TableOptions, TableSource
from storage.sources.tars import TarsSource, names_tars
from storage.sources.tree import PICTURES, Tree, ending
from storage.urls import redact

__all__ = ["Source", "SourceItem", "TableOptions", "open_source"]


class Source(Protocol):
    """A collection of pictures, listed in one order and read by path."""

    @property
    def kind(self) -> str:
        """`folder`, `table` or `tars`."""

    @property
    def base(self) -> str:
        """URL of the folder that paths are relative to."""

    @property
    def facts(self) -> dict[str, str]:
        """What says that two sources are the same one; fit for a file, without secrets."""

    @property
    def counted(self) -> dict[str, int]:
        """What the listing passed over, by what it was; complete once `items` has ended."""

    def items(self) -> Iterator[SourceItem]:
        """Every picture (or tar) by path components; ConfigurationError if there is none."""

    def read(self, path: str) -> bytes:
        """The bytes at `path`; FileNotFoundError says why there are none to be had."""


def open_source(source: str, *, exclude: str = "", table: TableOptions | None = None) -> Source:
    """The source that `source` names; `exclude` is a URL below which nothing is listed.

    Raises ConfigurationError for what is missing, unreadable or of no known kind.
    """
    if not source.strip():
        raise ConfigurationError("SOURCE is empty: give a folder, a glob, a table or tars")
    options = table or TableOptions()
    found = _source(source, exclude, options)
    if options.splits and "split" not in found.facts:
        raise ConfigurationError(f"SOURCE {redact(source)!r} has no splits: leave --split out")
    return found


def _source(source: str, exclude: str, options: TableOptions) -> Source:
    tree = Tree(source)
    kind = tree.kind("")
    if kind == "folder":
        return FolderSource(whole(source), exclude=exclude)
    if names_tars(source):
        return TarsSource(source, exclude=exclude)
    if kind == "file":
        return _file_source(source, options)
    if has_magic(source):
        return FolderSource(parse_pattern(source), exclude=exclude)
    raise ConfigurationError(
        f"SOURCE {redact(source)!r} does not exist: give a folder, a glob, a table or tars"
    )


def _file_source(source: str, options: TableOptions) -> Source:
    if source.lower().endswith(TABLE_ENDINGS):
        return TableSource(source, options)
    if ending(source) in PICTURES:
        return FolderSource(single(source))
    known = ", ".join(TABLE_ENDINGS)
    raise ConfigurationError(
        f"SOURCE {redact(source)!r} is no folder, picture or tar, nor a table ({known})"
    )
