"""The Parquet beside stored embeddings: what it says of each picture, as rows of an index.

A column that is not there, or says nothing that can be used, is null. Two rows of one key are told
apart: the later one is a row `duplicate_key`, called `key#2`.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import ShardError
from storage.parquet import read_batches, read_schema, rows_to_table
from storage.schema import INDEX
from storage.sources.item import clean_captions
from storage.urls import redact

_KEYS = ("key", "image_path")
_OTHERS = ("url", "caption", "sha256", "width", "height", "original_width", "original_height")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NUMBERED = r"#\d+$"


class StoredMetadata:
    """What the Parquet at `url` says of its pictures."""

    def __init__(self, url: str) -> None:
        self._url = url
        names = read_schema(url).names
        self._columns = [name for name in (*_KEYS, *_OTHERS) if name in names] or names[:1]
        self._key = next((name for name in _KEYS if name in names), "")

    def tables(self) -> Iterator[pa.Table]:
        """Rows of the index in order, some thousands at a time."""
        repeated, numbered = self._repeated()
        seen: Counter[str] = Counter()
        first = 0
        for table in read_batches(self._url, self._columns):
            keys = self._keys(table, first).to_pylist()
            rows = []
            for key, told in zip(keys, table.to_pylist(), strict=True):
                row = _index_row(key, told)
                if key in repeated:
                    seen[key] += 1
                    if seen[key] > 1:
                        row |= _duplicate(key, seen[key], numbered)
                rows.append(row)
            first += len(rows)
            yield rows_to_table(rows, INDEX)

    def _repeated(self) -> tuple[set[str], set[str]]:
        """Keys that stand more than once, and those that look like `key#2` themselves."""
        if not self._key:
            return set(), set()
        parts, first = [], 0
        for table in read_batches(self._url, [self._key]):
            parts.append(self._keys(table, first))
            first += table.num_rows
        keys = pa.chunked_array(parts, pa.string())
        counted = pc.value_counts(keys)
        twice = counted.filter(pc.greater(counted.field("counts"), 1)).field("values")
        numbered = keys.filter(pc.match_substring_regex(keys, _NUMBERED))
        return set(twice.to_pylist()), set(numbered.to_pylist())

    def _keys(self, table: pa.Table, first: int) -> pa.ChunkedArray:
        """The key column, else the path, else the row's number, as text."""
        rows = range(first, first + table.num_rows)
        numbers = pa.chunked_array([pa.array(map(str, rows), pa.string())])
        if not self._key:
            return numbers
        try:
            keys = pc.cast(table[self._key], pa.string())
        except pa.ArrowException as error:
            raise ShardError(
                f"{redact(self._url)!r}: column {self._key!r} cannot be read as text: {error}"
            ) from error
        blank = pc.equal(keys, "")
        return pc.coalesce(pc.if_else(blank, pa.scalar(None, pa.string()), keys), numbers)


def _index_row(key: str, told: dict[str, Any]) -> dict[str, Any]:
    url, path, sha256 = (_text(told.get(name)) for name in ("url", "image_path", "sha256"))
    said = told.get("caption")
    texts = said if isinstance(said, list) else [said]
    return {
        "key": key,
        "path": path,
        "url": redact(url) if url else None,
        "sha256": sha256 if sha256 and _SHA256.fullmatch(sha256) else None,
        "n_bytes": None,
        "width": _pixels(told.get("width")) or _pixels(told.get("original_width")),
        "height": _pixels(told.get("height")) or _pixels(told.get("original_height")),
        "format": None,
        "captions": list(clean_captions([text for text in texts if isinstance(text, str)])),
        "status": "ok",
        "error_code": "",
        "error_detail": None,
    }


def _duplicate(key: str, turn: int, taken: set[str]) -> dict[str, Any]:
    """What makes a row of a key that stood before one of its own."""
    name = next(name for n in count(turn) if (name := f"{key}#{n}") not in taken)
    taken.add(name)
    detail = f"an earlier row has the key {key!r}"
    return {"key": name, "status": "error", "error_code": "duplicate_key", "error_detail": detail}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _pixels(value: Any) -> int | None:
    """A number of pixels; None for what is none (pandas writes gaps as NaN)."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if number and 0 < value < 1 << 31 else None
