"""Which rows of a run a person is shown: some at random, the best, the worst, and the failed.

A run is read once, a row group at a time; what is kept does not grow with it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.quantiles import Spool
from storage.sampling import Smallest, mark_of

RANDOM = 60
EDGE = 30
"""Of the best, and of the worst."""
PER_CODE = 10
"""Failed rows of each code."""
SHARDS = 12
"""Shards that random rows come from: their tars are read for the pictures."""
SHOWN = [
    *("shard", "key", "path", "sha256", "width", "height", "orig_caption", "caption"),
    *("clip_sim", "caption_logprob", "n_tokens", "status", "error_code", "error_detail"),
]
NUMBERS = ("clip_sim", "caption_logprob", "words")

Row = dict[str, Any]


@dataclass(slots=True)
class Sheet:
    """What has been kept of the rows seen so far."""

    drawn_from: frozenset[str]
    """Shards that random rows come from."""
    spools: dict[str, Spool]
    rows: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    _random: Smallest[Row] = field(default_factory=lambda: Smallest(RANDOM))
    _ends: dict[tuple[str, str], Smallest[Row]] = field(default_factory=dict)
    _failed: dict[str, Smallest[Row]] = field(default_factory=dict)

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in some rows of one shard."""
        table = pa.Table.from_batches([batch])
        self.rows += table.num_rows
        self._add_failed(table.filter(pc.equal(table["status"], "error")))
        captioned = table.filter(pc.is_valid(table["caption"]))
        if not captioned.num_rows:
            return
        self._count(captioned)
        for number in ("clip_sim", "caption_logprob"):
            self._add_ends(captioned, number)
        if captioned["shard"][0].as_py() in self.drawn_from:
            for row in captioned.to_pylist():
                self._random.add(mark_of(row["shard"], row["key"]), row)

    @property
    def ranked_by(self) -> str:
        """What best and worst are told by: the score, or else the log-probability."""
        return next((n for n in ("clip_sim", "caption_logprob") if self.spools[n].count), "")

    def random(self) -> list[Row]:
        """Captioned rows, drawn."""
        return self._random.things()

    def best(self) -> list[Row]:
        """The best first."""
        return self._end("descending")

    def worst(self) -> list[Row]:
        """The worst first."""
        return self._end("ascending")

    def failed(self) -> list[Row]:
        """Failed rows, some of each code."""
        return [row for _, kept in sorted(self._failed.items()) for row in kept.things()]

    def _end(self, order: str) -> list[Row]:
        """Of few rows the upper half is called best, the lower worst."""
        kept = self._ends.get((self.ranked_by, order))
        if kept is None:
            return []
        half = (self.spools[self.ranked_by].count + (order == "descending")) // 2
        return kept.things()[:half]

    def _count(self, captioned: pa.Table) -> None:
        words = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(captioned["caption"]))
        columns = {
            "clip_sim": captioned["clip_sim"],
            "caption_logprob": captioned["caption_logprob"],
            "words": pc.list_value_length(words),
        }
        for name, spool in self.spools.items():
            values = pc.drop_null(columns[name]).cast(pa.float32())
            spool.add(values.filter(pc.is_finite(values)).to_numpy())

    def _add_ends(self, captioned: pa.Table, number: str) -> None:
        known = captioned.filter(pc.is_finite(captioned[number]))
        for order, sign in (("ascending", 1), ("descending", -1)):
            places = pc.select_k_unstable(known, EDGE, [(number, order)])
            kept = self._ends.setdefault((number, order), Smallest(EDGE))
            for row in known.take(places).to_pylist():
                kept.add(round(sign * row[number] * 1e9), row)

    def _add_failed(self, failed: pa.Table) -> None:
        self.failures.update(failed["error_code"].to_pylist())
        for row in failed.to_pylist():
            kept = self._failed.setdefault(row["error_code"], Smallest(PER_CODE))
            kept.add(mark_of(row["shard"], row["key"]), row)


def some_shards(names: Iterable[str]) -> frozenset[str]:
    """A few of the shards, the same whenever the names are."""
    drawn: Smallest[str] = Smallest(SHARDS)
    for name in names:
        drawn.add(mark_of(name), name)
    return frozenset(drawn.things())


def identity(row: Row) -> tuple[str, str]:
    """(shard, key)."""
    return row["shard"], row["key"]


def unlike(rows: Sequence[Row], others: Iterable[Row]) -> list[Row]:
    """`rows` without those that `others` have already."""
    shown = {identity(row) for row in others}
    return [row for row in rows if identity(row) not in shown]
