"""A plan's rows: what a listing holds that earlier plans do not, found in one merged pass.

Both sides come sorted by path components, so memory holds a few row groups, not a collection.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from storage.fingerprint import canonical
from storage.parquet import damage, opened, read, read_group
from storage.schema import ROW_GROUP
from storage.sources.item import SourceItem, path_order
from storage.stems import Stems

PLAN = pa.schema(
    [
        pa.field("stem", pa.string()),
        pa.field("path", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("stamp", pa.string(), nullable=False),
        pa.field("captions", pa.list_(pa.string()), nullable=False),
        pa.field("change", pa.string(), nullable=False),
    ]
)
"""One row a picture (or tar of others) in order of path; a vanished one has no stem."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One picture, or one tar of others, of a shard."""

    stem: str
    path: str
    url: str | None
    size: int
    stamp: str
    captions: tuple[str, ...]


class Known(NamedTuple):
    """What one earlier plan says of a path."""

    order: tuple[str, ...]
    sequence: int
    size: int
    stamp: str
    vanished: bool
    ours: bool
    """Whether that plan was made from the source that is listed now."""


class Frozen:
    """The rows of a new plan as they are found, and what is counted along the way."""

    def __init__(self, items: Iterator[SourceItem], known: Iterator[Known], stems: Stems) -> None:
        self._items = items
        self._known = known
        self._stems = stems
        self._digest = hashlib.sha256()
        self.counts: Counter[str] = Counter(new=0, changed=0, vanished=0)

    @property
    def rows(self) -> int:
        """Pictures (or tars) planned."""
        return self.counts["new"] + self.counts["changed"]

    @property
    def shards(self) -> int:
        """Shards planned."""
        return self._stems.count

    @property
    def digest(self) -> str:
        """Hash of what is planned: no stamps, as they are clocks; no place of a foreign tar."""
        return self._digest.hexdigest()

    def tables(self) -> Iterator[pa.Table]:
        """The rows in order of path, a row group at a time."""
        held: list[dict[str, Any]] = []
        for row in self._changes():
            self.counts[row["change"]] += 1
            if row["stem"] is not None:
                seen = {name: row[name] for name in ("stem", "path", "size", "captions")}
                seen["url"] = row["url"] if self._stems.tars is None else None
                self._digest.update(canonical(seen))
            held.append(row)
            if len(held) == ROW_GROUP:
                yield pa.Table.from_pylist(held, schema=PLAN)
                held = []
        yield pa.Table.from_pylist(held, schema=PLAN)

    def _changes(self) -> Iterator[dict[str, Any]]:
        """Rows for what is new, changed or gone; what is known as it stands gives none."""
        past = _by_path(self._known)
        before = next(past, None)
        for item in self._items:
            order = item.order
            while before and before.order < order:
                yield from _gone(before)
                before = next(past, None)
            if before and before.order == order:
                same = (before.size, before.stamp) == (item.size, item.stamp)
                before = next(past, None)
                if not same:
                    yield self._row(item, "changed")
            else:
                yield self._row(item, "new")
        while before:
            yield from _gone(before)
            before = next(past, None)

    def _row(self, item: SourceItem, change: str) -> dict[str, Any]:
        return {
            "stem": self._stems.next(item.path),
            "path": item.path,
            "url": item.url,
            "size": item.size,
            "stamp": item.stamp,
            "captions": list(item.captions),
            "change": change,
        }


class Earlier(NamedTuple):
    """The rows of a plan that was made before."""

    url: str
    ours: bool
    """Whether its source is the one that is listed now."""
    lost: frozenset[str]
    """Paths that were gone when their shard was cut: as if the plan had said so. One without a
    stamp never was there: a link to nothing, listed every night."""


def known_rows(plans: Iterable[Earlier]) -> Iterator[Known]:
    """What earlier plans say, in order of path; `plans` are given oldest first."""

    def rows(sequence: int, plan: Earlier) -> Iterator[Known]:
        for table in read(plan.url, ["path", "size", "stamp", "change"]):
            for path, size, stamp, change in zip(
                *(column.to_pylist() for column in table.columns), strict=True
            ):
                gone = change == "vanished" or (bool(stamp) and path in plan.lost)
                yield Known(path_order(path), sequence, size, stamp, gone, plan.ours)

    return heapq.merge(*(rows(number, plan) for number, plan in enumerate(plans)))


def rows_of(url: str, stem: str) -> list[PlanRow]:
    """The rows of one shard, from the row groups whose statistics say they may hold it."""
    found: list[PlanRow] = []
    with opened(url) as parquet:
        for number in range(parquet.num_row_groups):
            facts = parquet.metadata.row_group(number).column(0).statistics
            if facts is not None and facts.has_min_max and not facts.min <= stem <= facts.max:
                continue
            with damage(url):
                table = read_group(parquet, number)
            mine = table.filter(pc.equal(table["stem"], stem)).drop_columns(["change"])
            found += [
                PlanRow(**row | {"captions": tuple(row["captions"])}) for row in mine.to_pylist()
            ]
    return found


def stems_of(url: str) -> list[str]:
    """The stems in order of their rows."""
    tables = [table["stem"].drop_null() for table in read(url, ["stem"])]
    return list(dict.fromkeys(stem for stems in tables for stem in stems.to_pylist()))


def _by_path(known: Iterator[Known]) -> Iterator[Known]:
    """One record a path: its newest size and stamp, and whether its absence is news.

    A path that is only said to be gone is unknown: no plan that counts holds it.
    """
    for _, group in groupby(known, key=lambda one: one.order):
        records = list(group)
        held = [record for record in records if not record.vanished]
        told = records[-1].vanished or not any(record.ours for record in records)
        if held:
            yield held[-1]._replace(vanished=told)


def _gone(before: Known) -> Iterator[dict[str, Any]]:
    if not before.vanished:
        path = "/".join(before.order)
        blank = {"stem": None, "url": None, "size": before.size, "stamp": before.stamp}
        yield {"path": path, "captions": [], "change": "vanished", **blank}
