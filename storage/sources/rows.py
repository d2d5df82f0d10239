"""The rows of a table of pictures: which columns matter, in which order their values come."""

# ruff: noqa: S608 (names of columns are quoted, values are parameters or escaped)

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from storage.errors import ConfigurationError
from storage.sources.table_file import Table, open_table, quote
from storage.sources.tree import PICTURES, Tree, ending

PATHS = (
    *("path", "image_path", "img_path", "file_path", "filepath", "file_name", "filename"),
    *("image_file", "image_name", "image", "img", "file", "name"),
)
CAPTIONS = (
    *("caption", "captions", "text", "texts", "comment", "comments", "sentence", "sentences"),
    *("description", "raw", "alt_text", "alt", "title"),
)
URLS = ("url", "image_url")
_NUMBERED = re.compile(r"(caption|text|comment|sentence|description)[_ -]?\d+", re.IGNORECASE)
_FLICKR = r"(\.[A-Za-z]{3,5})#\d+$"
"""`1000268201.jpg#0`: Flickr8k numbers a picture's captions behind its name."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row, reduced to what matters."""

    path: str
    url: str | None
    captions: tuple[str, ...]


class TableRows:
    """The rows of the table at `url`; its columns are guessed where none are given."""

    def __init__(self, url: str, path_column: str, caption_columns: Sequence[str]) -> None:
        self._url = url
        self._shown = Tree(url).shown("")
        self.counted: dict[str, int] = {}
        with open_table(url) as table:
            self._columns = table.columns
            self._by_name = {name.lower(): name for name in reversed(table.columns)}
            self.path_column = self._given(path_column) if path_column else self._guess_path(table)
            given = tuple(self._given(name) for name in caption_columns)
            self.caption_columns = given or self._guess_captions(table.named)
        self.facts = {"columns": json.dumps([self.path_column, *self.caption_columns])}
        self._url_column = next((self._by_name[name] for name in URLS if name in self._by_name), "")

    def first_path(self) -> str:
        """The path of the first row that has one; ConfigurationError if none has."""
        with open_table(self._url) as table:
            query = f"SELECT path FROM ({self._select(table)}) WHERE path <> '' ORDER BY n LIMIT 1"
            found = table.connection.execute(query).fetchone()
        if not found:
            raise ConfigurationError(f"table {self._shown!r} has no rows that name a picture")
        return str(found[0])

    def sorted(self, base: str) -> Iterator[TableRow]:
        """The rows that name a path, by path components, then as they stand in the table.

        `base` is taken off absolute paths that begin with it. `counted` has the rows that say
        too little, such as the one of Flickr30k that lacks a separator.
        """
        with open_table(self._url) as table:
            rows = self._select(table)
            counting = f"SELECT count(*) FROM ({rows}) WHERE coalesce(path, '') = ''"
            pathless = int((table.connection.execute(counting).fetchone() or [0])[0])
            captionless = 0
            inside = (
                "SELECT n, url, texts, CASE WHEN starts_with(path, $1) "
                f"THEN substr(path, length($1) + 1) ELSE path END AS path FROM ({rows})"
            )
            cursor = table.connection.execute(
                f"SELECT path, url, texts FROM ({inside}) WHERE path <> '' "
                "ORDER BY string_split(path, '/'), n",
                [base],
            )
            while found := cursor.fetchmany(10_000):
                for path, url, texts in found:
                    captions = tuple(_texts(texts, quoted=table.quoted))
                    captionless += bool(self.caption_columns) and not captions
                    yield TableRow(path, url, captions)
        counts = {"rows without a path": pathless, "rows without a caption": captionless}
        self.counted = {what: count for what, count in counts.items() if count}

    def _select(self, table: Table) -> str:
        """The query for n, path, url and texts (JSON values, one a caption column)."""

        def text(column: str) -> str:
            return f"trim(to_json({quote(column)})->>'$')"

        texts = ", ".join(f"to_json({quote(column)})" for column in self.caption_columns)
        path = f"regexp_replace({text(self.path_column)}, '{_FLICKR}', '\\1')"
        return (
            f"SELECT row_number() OVER () AS n, regexp_replace({path}, '^(\\./)+', '') AS path, "
            f"{text(self._url_column) if self._url_column else 'NULL'} AS url, "
            f"CAST([{texts}] AS VARCHAR[]) AS texts FROM {table.relation}"
        )

    def _given(self, name: str) -> str:
        if name.lower() not in self._by_name:
            raise self._unknown(f"has no column {name!r}")
        return self._by_name[name.lower()]

    def _guess_path(self, table: Table) -> str:
        """A usual name, else the column whose first value looks like a picture's name."""
        for name in PATHS:
            if name in self._by_name:
                return self._by_name[name]
        row = table.connection.execute(f"SELECT * FROM {table.relation} LIMIT 1").fetchone() or ()
        for name, value in zip(table.columns, row, strict=False):
            if ending(str(value).strip('" ').partition("#")[0]) in PICTURES:
                return name
        raise self._unknown("has no column of paths that could be told by its name")

    def _guess_captions(self, named: bool) -> tuple[str, ...]:
        numbered = tuple(name for name in self._columns if _NUMBERED.fullmatch(name))
        if numbered:
            return numbered
        usual = [self._by_name[name] for name in CAPTIONS if name in self._by_name]
        if not named and len(self._columns) == 2:
            usual = [name for name in self._columns if name != self.path_column]
        return tuple(name for name in usual[:1] if name != self.path_column)

    def _unknown(self, what: str) -> ConfigurationError:
        columns = ", ".join(self._columns)
        return ConfigurationError(
            f"table {self._shown!r} {what}: name one of {columns} with --path-column or "
            "--caption-column"
        )


def _texts(values: list[str | None], *, quoted: bool) -> Iterator[str]:
    """The captions in JSON `values`: each a text, a list of texts, or nothing."""
    for value in values:
        found: Any = json.loads(value) if value else None
        for text in found if isinstance(found, list) else [found]:
            if isinstance(text, str | int | float):
                yield str(text) if quoted else _unquote(str(text))


def _unquote(text: str) -> str:
    """`text` without the quotes around it, where all of it is one quoted field."""
    inner = text.strip()[1:-1]
    whole = len(inner) + 2 == len(text.strip()) and text.strip()[:1] == text.strip()[-1:] == '"'
    if whole and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return text
