"""A shard's content in local scratch: pictures packed into a tar, or another's tar looked through.

Nothing here is seen by anyone until its store publishes it.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.ahead import ahead
from storage.errors import StoreUnavailable
from storage.parquet import encode, rows_to_table
from storage.plan_rows import PlanRow
from storage.schema import INDEX, with_facts
from storage.sources import Source
from storage.sources.item import clean_captions
from storage.sources.tree import Tree
from storage.tar_reader import MAX_BYTES, TarSample
from storage.tar_writer import TarWriter, member_ending
from storage.urls import is_local, redact

ROWS = 1000
"""Index rows held while a shard is made."""


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """What a picture's header says of it, or what is wrong with it."""

    width: int | None
    """Upright, in pixels."""
    height: int | None
    format: str | None
    status: str = "ok"
    error_code: str = ""
    error_detail: str | None = None


Inspect = Callable[[bytes], HeaderFacts]
"""Judges a picture by its header; never raises."""
Transform = Callable[[bytes], bytes]
"""What is stored in place of the original bytes; never raises."""


@dataclass(slots=True)
class IndexFile:
    """An index at the local `path`, and what was counted while it was written."""

    path: Path
    rows: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Any] = field(default_factory=dict)
    """Counts that the receipt carries."""

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write and check the whole index."""
        self.rows = encode(self._tables(rows), with_facts(INDEX, {}), self.path).rows

    def _tables(self, rows: Iterable[dict[str, Any]]) -> Iterator[pa.Table]:
        waiting = iter(rows)
        while held := list(islice(waiting, ROWS)):
            self.failures.update(row["error_code"] for row in held if row["error_code"])
            yield rows_to_table(held, INDEX)


def picture_key(path: str) -> str:
    """16 hex digits that stand for `path`, verbatim, in tars and tables."""
    return hashlib.blake2b(path.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Cutter:
    """Packs planned pictures into a tar."""

    source: Source
    inspect: Inspect
    transform: Transform | None = None
    max_bytes: int = MAX_BYTES

    def rows(self, planned: Iterable[PlanRow], tar: TarWriter) -> Iterator[dict[str, Any]]:
        """Index rows in the order of the plan; each picture is in `tar` once its row is given.

        StoreUnavailable if pictures are missing and nothing else is there either.
        """
        threads = 0 if is_local(self.source.base) else 16
        missing = 0
        for row, data, facts in ahead(self._looked_at, planned, threads):
            key = picture_key(row.path)
            index = index_row(key, row.path, row.url, data, facts)
            index["captions"] = list(row.captions)
            missing += facts.error_code == "missing_member"
            if data is not None:
                told = ("path", "url", "sha256", "width", "height", "format")
                ext = member_ending(row.path, facts.format)
                tar.write(key, (ext, data), {name: index[name] for name in told}, row.captions)
            yield index
        if missing and Tree(self.source.base).is_bare():
            raise StoreUnavailable(
                f"{redact(self.source.base)!r} is empty now: is it mounted? {missing} planned "
                "pictures could not be read, and nothing is recorded of them"
            )

    def _looked_at(self, row: PlanRow) -> tuple[PlanRow, bytes | None, HeaderFacts]:
        if row.size > self.max_bytes:
            detail = f"{row.size} bytes, more than {self.max_bytes}"
            return row, None, failed("too_large", detail)
        try:
            data = self.source.read(row.path)
        except FileNotFoundError as error:
            return row, None, failed("missing_member", str(error))
        if self.transform:
            data = self.transform(data)
        return row, data, self.inspect(data)


@dataclass(frozen=True, slots=True)
class Adopter:
    """Looks through a tar of others, and the Parquet that img2dataset wrote beside it."""

    tar: str
    """The tar's path relative to its source."""
    inspect: Inspect
    beside: Mapping[str, Mapping[str, Any]]
    """img2dataset's rows by key."""

    def rows(self, samples: Iterable[TarSample]) -> Iterator[dict[str, Any]]:
        """Index rows: samples in order, then what was to be fetched and is not in the tar."""
        left = dict(self.beside)
        for sample in samples:
            known = left.pop(sample.key, {})
            facts = failed(*sample.problem) if sample.problem else HeaderFacts(None, None, None)
            if sample.image is not None and not sample.problem:
                facts = self.inspect(sample.image)
            url = known.get("url") or sample.facts.get("url")
            path = f"{self.tar}/{sample.name or sample.key}"
            row = index_row(sample.key, path, url, sample.image, facts)
            told = (known.get("caption"), sample.facts.get("caption"))
            row["captions"] = next(filter(None, map(_captions, told)), list(sample.captions))
            row["n_bytes"] = sample.size
            yield row
        for key, known in left.items():
            detail = str(known.get("error_message") or "listed, but not in the tar")
            facts = failed("missing_member", redact(detail)[:200])
            row = index_row(key, f"{self.tar}/{key}", known.get("url"), None, facts)
            row["captions"] = _captions(known.get("caption"))
            yield row


def index_row(
    key: str, path: str, url: object, data: bytes | None, facts: HeaderFacts
) -> dict[str, Any]:
    """A row of the index, without captions yet."""
    return {
        "key": key,
        "path": path,
        "url": redact(url) if isinstance(url, str) else None,
        "sha256": None if data is None else hashlib.sha256(data).hexdigest(),
        "n_bytes": None if data is None else len(data),
        "width": facts.width,
        "height": facts.height,
        "format": facts.format,
        "captions": [],
        "status": facts.status,
        "error_code": facts.error_code,
        "error_detail": facts.error_detail,
    }


def _captions(told: object) -> list[str]:
    """What a `caption` says: a text or a list of texts, blank ones dropped."""
    texts = told if isinstance(told, list) else [told]
    return list(clean_captions([text for text in texts if isinstance(text, str)]))


def failed(code: str, detail: str) -> HeaderFacts:
    """A picture that could not be read."""
    return HeaderFacts(None, None, None, "error", code, detail)
