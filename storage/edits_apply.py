"""Applies what reviewers decided: the changed shards of a run get a new generation each.

It may be run any number of times and gives the same rows: every decision is applied to the row as
the model made it, which is kept before it is superseded for the first time.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.captions import caption_store, find_captions
from storage.edit_originals import keep_originals, read_originals
from storage.edit_rows import base_of, decided
from storage.edits import Edit, EditLog, standing
from storage.errors import ConfigurationError
from storage.generations import supersede
from storage.layout import ShardName, open_root
from storage.outputs import OutputStore
from storage.parquet import read, rows_to_table
from storage.receipts import Receipt
from storage.run_summary import finalise, is_sealed, unseal
from storage.schema import CAPTIONS

Row = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Applied:
    """What the decisions came to."""

    run: str
    decisions: dict[str, int]
    """Standing decisions, by action."""
    changed: int = 0
    """Rows that are not as the model made them."""
    shards: list[str] = field(default_factory=list)
    """Those that have a new generation."""
    strangers: int = 0
    """Decisions about rows that the run no longer has: kept in the log, applied to nothing."""
    sealed: bool = True
    """Whether the run is summed up and marked with `_SUCCESS`."""


def apply_edits(url: str, run: str = "") -> Applied:
    """Make the run what its reviewers decided, and sum it up anew if it was summed up before.

    ConfigurationError if there are no edits.
    """
    root = open_root(url)
    settled = find_captions(root, run)
    log = EditLog(root, settled.name)
    log.refresh()
    if not log.names():
        raise ConfigurationError(
            f"nobody has reviewed run {settled.name!r} yet: nightcap review makes edits"
        )
    store = caption_store(root, settled)
    kept = {name: standing(log.history(name)) for name in log.names()}
    actions = Counter(edit.action for edit in kept.values() if edit)
    done = Applied(run=settled.name, decisions=dict(sorted(actions.items())))
    sealed = is_sealed(root, settled)
    here = _shards(store)
    for shard in sorted({ShardName.parse(name[0]) for name in kept}):
        rows = {key: edit for (where, key), edit in kept.items() if where == str(shard)}
        if shard not in here:
            done.strangers += len(rows)
            continue
        work = _ShardEdits(log, store, shard, rows)
        if work.apply(lambda: unseal(root, settled)):
            done.shards.append(str(shard))
        done.changed += work.changed
        done.strangers += len(rows) - work.met
    if sealed:
        finalise(root, settled)
    done.sealed = is_sealed(root, settled)
    return done


@dataclass(slots=True)
class _ShardEdits:
    """The decisions about the rows of one shard."""

    log: EditLog
    store: OutputStore
    shard: ShardName
    edits: dict[str, Edit | None]
    """The standing decision by key; None where it was taken back."""
    changed: int = 0
    """Rows that are not as the model made them."""
    met: int = 0
    """Decisions whose row is there."""

    def apply(self, before_commit: Callable[[], None]) -> bool:
        """Commit the next generation if a row changes; whether one did."""
        before = self.store.receipt(self.shard)
        changes, _ = self._changes(before)
        if not changes:
            return False
        before_commit()
        supersede(self.store, self.shard, self._tables, self._facts)
        return True

    def _facts(self) -> dict[str, Any]:
        return {"reviewed": {"changed": self.changed}}

    def _tables(self, receipt: Receipt) -> Iterator[pa.Table]:
        """The next generation's rows; those that change for the first time are kept before."""
        changes, firsts = self._changes(receipt)
        keep_originals(self.log.root, self.log.run, self.shard, firsts)
        for table in self._read(receipt):
            keys = table["key"].to_pylist()
            if changes.keys().isdisjoint(keys):
                yield table
                continue
            rows = table.to_pylist()
            yield rows_to_table([changes.get(row["key"], row) for row in rows], CAPTIONS)

    def _changes(self, receipt: Receipt) -> tuple[dict[str, Row], list[Row]]:
        """The new row of each key that changes, and the rows to keep as they were."""
        originals = read_originals(self.log.root, self.log.run, self.shard)
        changes: dict[str, Row] = {}
        firsts: list[Row] = []
        self.changed = self.met = 0
        for row in self._decided_rows(receipt):
            key = row["key"]
            base = base_of(row, originals.get(key), self.log.history((str(self.shard), key)))
            new = decided(base, self.edits[key])
            self.met += 1
            self.changed += new != base
            if new != row:
                changes[key] = new
            if new != row and base is row:
                firsts.append(row)
        return changes, firsts

    def _decided_rows(self, receipt: Receipt) -> Iterator[Row]:
        wanted = pa.array(list(self.edits), pa.string())
        for table in self._read(receipt):
            yield from table.filter(pc.is_in(table["key"], value_set=wanted)).to_pylist()

    def _read(self, receipt: Receipt) -> Iterator[pa.Table]:
        yield from read(self.store.root.absolute(receipt.files[0].url))


def _shards(store: OutputStore) -> set[ShardName]:
    return {ShardName(batch, stem) for batch in store.batches() for stem in store.receipts(batch)}
