"""A run as its reviewers see it: rows that can be filtered, paged and decided about, at any size.

The rows are copied once into a scratch database, a batch at a time; memory holds what DuckDB is
allowed and the decisions. The run itself is never touched: decisions go to the log of edits.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from storage.captions import find_captions, open_captions
from storage.commit import scratch
from storage.edits import Edit, EditLog, RowName, standing
from storage.errors import ConfigurationError
from storage.layout import Root, open_root
from storage.review_decide import edit_from
from storage.review_query import FROM, ORDERS, SEARCHED, Place, Wanted
from storage.tables import connect, one

MEMORY = "100MB"
_COLUMNS = ["shard", "key", "path", "url", "sha256", "width", "height", "format", "orig_caption"]
_READ = [*_COLUMNS, "caption", "clip_sim", "captions", "status", "error_code", "error_detail"]
_SHOWN = (
    "id, r.shard, r.key, r.path, r.url, r.sha256, r.width, r.height, r.format, r.orig_caption, "
    "r.caption, r.score, r.captions, r.error_code, r.error_detail, "
    "d.edit, d.action, d.caption as decided, d.author as decided_by, d.time as decided_at"
)
_DECISIONS = pa.schema(
    [("id", pa.int64())] + [(name, pa.string()) for name in ("action", "caption", "author", "time")]
)


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of rows, and where to go on."""

    rows: list[dict[str, Any]]
    """Each with its `place`."""
    earlier: bool
    """Whether rows come before these."""
    later: bool


@contextmanager
def open_review(url: str, run: str = "", ids: str = "") -> Iterator["ReviewTable"]:
    """The rows of a run, newest of its path, or those of them that the Parquet `ids` names."""
    root = open_root(url)
    settled = find_captions(root, run)
    with scratch() as folder, connect(folder, 2, MEMORY) as database:
        columns = [*_COLUMNS, "caption", "clip_sim as score", "captions"]
        columns += ["error_code", "error_detail", SEARCHED]
        for number, table in enumerate(_numbered(url, settled.name)):
            picked = f"select id, {', '.join(columns)} from batch"
            database.register("batch", table)
            verb = "insert into rows" if number else "create table rows as"
            database.execute(f"{verb} {picked}")
        if ids:
            _keep_only(database, ids)
        database.execute(
            "create table decisions (id bigint primary key, edit varchar, action varchar, "
            "caption varchar, author varchar, time varchar)"
        )
        table = ReviewTable(root, settled.name, database, EditLog(root, settled.name))
        table.refresh()
        yield table


class ReviewTable:
    """One run under review; safe to be asked by several threads."""

    def __init__(
        self, root: Root, run: str, database: duckdb.DuckDBPyConnection, log: EditLog
    ) -> None:
        self.root, self.run, self.log = root, run, log
        self._database = database
        self._lock = threading.RLock()

    def refresh(self) -> None:
        """Take up what other servers' reviewers decided meanwhile."""
        with self._lock:
            self._settle({edit.name for edit in self.log.refresh()})

    def page(
        self, wanted: Wanted, size: int, *, after: Place | None = None, before: Place | None = None
    ) -> Page:
        """Up to `size` rows after or before a place, or the first; in order either way."""
        where, values = wanted.where()
        place, sign, way = (before, "<", "desc") if before else (after, ">", "asc")
        rank = ORDERS[wanted.order]
        if place:
            where = f"({where}) and ({rank}, id) {sign} (?::double, ?::bigint)"
            values += [place.rank, place.id]
        # Places first, then the rows of these: sorting whole rows takes ten times as long.
        query = (
            f"with places as materialized (select {rank} as rank, id {FROM} where {where} "
            f"order by rank {way}, id {way} limit {int(size) + 1}) "
            f"select p.rank, {_SHOWN} from places p join rows r using (id) "
            f"left join decisions d using (id) order by p.rank {way}, id {way}"
        )
        rows = self._rows(query, values)
        more, rows = len(rows) > size, rows[:size]
        if before:
            return Page(rows[::-1], earlier=more, later=True)
        return Page(rows, earlier=after is not None, later=more)

    def count(self, wanted: Wanted) -> int:
        """How many rows there are of these."""
        where, values = wanted.where()
        with self._lock:
            return int(one(self._database, f"select count(*) {FROM} where {where}", values)[0])

    def row(self, number: int, order: str = "row") -> dict[str, Any] | None:
        """One row by its number; None if there is none."""
        query = f"select {ORDERS[order]} as rank, {_SHOWN} {FROM} where id = ?"
        return next(iter(self._rows(query, [number])), None)

    def totals(self) -> dict[str, int]:
        """Rows in all, those that failed, and how many are accepted, edited and rejected."""
        counts = "count(*) as rows, count(*) filter (r.error_code <> '') as failed, " + ", ".join(
            f"count(*) filter (d.action = '{action}') as {action}"
            for action in ("accept", "edit", "reject")
        )
        return {
            name: int(number) for name, number in self._rows(f"select {counts} {FROM}")[0].items()
        }

    def decide(
        self, given: Iterable[tuple[RowName, Mapping[str, str]]], by: str
    ) -> list[dict[str, Any]]:
        """Keep decisions (row; id, action and caption as `checked`); the rows afterwards.

        When this returns they are on disk. An undo takes back the decision that stands.
        """
        with self._lock:
            self.refresh()
            edits: list[Edit] = []
            numbers = []
            for name, what in given:
                row = self._named(name)
                numbers.append(row["id"])
                edit = edit_from(self.log, row, what, by, edits)
                edits += [edit] if edit else []
            self._settle({edit.name for edit in self.log.add(edits)})
            return [after for number in numbers if (after := self.row(number))]

    def history(self, row: Mapping[str, Any]) -> list[Edit]:
        """All that was decided about a row, oldest first."""
        return self.log.history((row["shard"], row["key"]))

    def _named(self, name: RowName) -> dict[str, Any]:
        query = f"select {_SHOWN} {FROM} where r.shard = ? and r.key = ?"
        for row in self._rows(query, name):
            return row
        raise ConfigurationError(f"there is no row {'/'.join(name)[:200]!r} in this review")

    def _settle(self, names: Iterable[RowName]) -> None:
        """Bring the table of standing decisions up to date for these rows."""
        changed = sorted(names)
        if not changed:
            return
        stands = [standing(self.log.history(name)) for name in changed]
        table = pa.table(
            {
                "shard": pa.array([shard for shard, _ in changed], pa.string()),
                "key": pa.array([key for _, key in changed], pa.string()),
                "edit": pa.array([edit and edit.id for edit in stands], pa.string()),
                "action": pa.array([edit and edit.action for edit in stands], pa.string()),
                "caption": pa.array([edit and edit.caption for edit in stands], pa.string()),
                "author": pa.array([edit and edit.by for edit in stands], pa.string()),
                "time": pa.array([edit and edit.at for edit in stands], pa.string()),
            }
        )
        with self._lock:
            self._database.register("changed", table)
            self._database.execute(
                "insert or replace into decisions select r.id, c.edit, c.action, c.caption, "
                "c.author, c.time from changed c join rows r using (shard, key)"
            )
            self._database.unregister("changed")

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        with self._lock:
            found = self._database.execute(query, list(values))
            names = [column[0] for column in found.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        for row in rows:
            if "rank" in row:
                row["place"] = Place(row.pop("rank"), row["id"])
        return rows


def _numbered(url: str, run: str) -> Iterator[pa.Table]:
    """The rows with their number in the run; one empty table at least."""
    begun = 0
    reader = open_captions(url, run, columns=_READ)
    yield _with_number(reader.schema.empty_table(), 0)
    for batch in reader:
        yield _with_number(pa.Table.from_batches([batch]), begun)
        begun += batch.num_rows


def _with_number(table: pa.Table, begun: int) -> pa.Table:
    numbers = np.arange(begun, begun + table.num_rows, dtype=np.int64)
    return table.append_column("id", pa.array(numbers))


def _keep_only(database: duckdb.DuckDBPyConnection, ids: str) -> None:
    """Leave the rows that a file of ids names, such as curate writes."""
    try:
        database.execute(
            "create table chosen as select distinct shard, key from read_parquet(?)", [ids]
        )
    except duckdb.Error as error:
        raise ConfigurationError(
            f"cannot read {ids!r}: give a Parquet file with the columns shard and key, such as "
            "the ids.parquet of nightcap curate"
        ) from error
    database.execute(
        "delete from rows r where not exists "
        "(select 1 from chosen c where c.shard = r.shard and c.key = r.key)"
    )
