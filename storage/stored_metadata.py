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
from storage.parquet import fitting, read_batches, read_schema
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
            columns = _index_columns(keys, table)
            for at in [at for at, key in enumerate(keys) if key in repeated] if repeated else ():
                seen[key := keys[at]] += 1
                if seen[key] > 1:
                    for name, value in _duplicate(key, seen[key], numbered).items():
                        columns[name][at] = value
            first += len(keys)
            with fitting():
                made = pa.table(columns, schema=INDEX)
            yield made

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
        numbers = pa.chunked_array([pa.array(list(map(str, rows)), pa.string())])
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


def _index_columns(keys: list[str], told: pa.Table) -> dict[str, list[Any]]:
    """The values of each column of the index; None where nothing can be used."""
    nothing: list[Any] = [None] * len(keys)
    said = {name: told[name].to_pylist() for name in told.column_names}
    texts = {
        name: list(map(_text, said.get(name, nothing))) for name in ("url", "image_path", "sha256")
    }
    hashes = (one if one and _SHA256.fullmatch(one) else None for one in texts["sha256"])
    return {
        "key": list(keys),
        "path": texts["image_path"],
        "url": [redact(url) if url else None for url in texts["url"]],
        "sha256": list(hashes),
        "n_bytes": nothing,
        "width": _sizes(said.get("width", nothing), said.get("original_width", nothing)),
        "height": _sizes(said.get("height", nothing), said.get("original_height", nothing)),
        "format": nothing,
        "captions": list(map(_captions, said.get("caption", nothing))),
        "status": ["ok"] * len(keys),
        "error_code": [""] * len(keys),
        "error_detail": list(nothing),
    }


def _sizes(first: list[Any], second: list[Any]) -> list[int | None]:
    return [_pixels(one) or _pixels(other) for one, other in zip(first, second, strict=True)]


def _captions(said: object) -> list[str]:
    texts = said if isinstance(said, list) else [said]
    return list(clean_captions([text for text in texts if isinstance(text, str)]))


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
