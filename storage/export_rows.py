"""Which rows an export takes, in what order, and what each is called.

Names are given in a first pass over the run, so that no two are alike; rows then stream in a
second one. What grows with the rows lies in DuckDB, which writes to disk beyond its memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from storage.captions import open_captions
from storage.errors import ConfigurationError, ShardError
from storage.export_names import folded, key_name, member_name, path_name
from storage.parquet import read_batches, read_schema
from storage.schema import ROW_GROUP
from storage.tables import one
from storage.urls import redact

Naming = Literal["path", "key", "member", "none"]
_LISTED = pa.schema(
    [
        pa.field("n", pa.int64()),
        *(pa.field(name, pa.string()) for name in ("shard", "key", "name", "folded")),
        pa.field("ok", pa.bool_()),
    ]
)
_CHANGED = "the run changed while it was exported: export it again into a new folder"
_IDS = pa.schema([("shard", pa.string()), ("key", pa.string())])
_AMONG = "exists (from ids where ids.shard = listed.shard and ids.key = listed.key)"


@dataclass(frozen=True, slots=True)
class Chosen:
    """One row to export."""

    rank: int
    """Its place among all of them, from 0."""
    name: str
    """Relative, safe, unlike any other, and without an ending."""
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """The chosen rows of one shard."""

    shard: str
    first: int
    """Rank of the first."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of a run's rows."""

    rows: int
    """Of the run, newest of each path."""
    chosen: int
    shards: int
    """That the chosen rows are in."""
    failed: int
    """Left out because they have no caption."""
    renamed: int
    """Whose name another row had already."""
    unknown: int
    """Ids that name no row of the run."""


class Selection:
    """The rows of `run` under `root` that have a caption, or those of `ids` among them."""

    def __init__(self, database: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._root, self._run = "", ""
        self.counts = Counts(rows=0, chosen=0, shards=0, failed=0, renamed=0, unknown=0)

    def choose(self, root: str, run: str, naming: Naming, ids: str, *, failed: bool) -> None:
        """Name and number the rows; with `failed`, those without a caption too."""
        self._root, self._run = root, run
        self._list(naming)
        unknown = self._take_ids(ids) if ids else 0
        asked = _AMONG if ids else "true"
        rows, without = one(
            self._database, f"select count(*), count(*) filter (not ok and {asked}) from listed"
        )
        nth = "1" if naming == "none" else "row_number() over (partition by folded order by n)"
        self._database.execute(
            "create table chosen as "
            "select row_number() over (order by n) - 1 as rank, n, shard, key, nth > 1 as renamed, "
            "name || case when nth > 1 then '~' || nth else '' end as name from "
            f"(select *, {nth} as nth from listed where {asked} and (ok or {failed}))"
        )
        chosen, renamed, shards = one(
            self._database,
            "select count(*), count(*) filter (renamed), count(distinct shard) from chosen",
        )
        self.counts = Counts(
            rows=rows,
            chosen=chosen,
            shards=shards,
            failed=0 if failed else without,
            renamed=renamed,
            unknown=unknown,
        )

    def parts(self, columns: list[str]) -> Iterator[tuple[Part, Iterator[Chosen]]]:
        """Each shard that has chosen rows with them, in order; read a part before the next."""
        facts = self._database.execute(
            "select shard, min(rank), count(*) from chosen group by shard"
        ).fetchall()
        known = {shard: Part(shard, first, count) for shard, first, count in facts}
        for shard, rows in groupby(self._rows(columns), key=lambda chosen: chosen.row["shard"]):
            yield known[shard], rows

    def batches(self, columns: list[str]) -> Iterator[tuple[pa.RecordBatch, list[tuple[int, str]]]]:
        """The chosen rows in order, with the rank and the name of each."""
        wanted = _Queue(self._database)
        before = 0
        for batch in open_captions(self._root, self._run, columns=columns):
            picked = wanted.until(before + batch.num_rows)
            places = pa.array([number - before for number, *_ in picked], pa.int64())
            taken = batch.take(places)
            found = zip(taken["shard"].to_pylist(), taken["key"].to_pylist(), strict=True)
            if list(found) != [(shard, key) for _, _, shard, key, _ in picked]:
                raise ShardError(_CHANGED)
            yield taken, [(rank, name) for _, rank, _, _, name in picked]
            before += batch.num_rows
        if wanted.until(1 << 62):
            raise ShardError(_CHANGED)

    def _rows(self, columns: list[str]) -> Iterator[Chosen]:
        for batch, named in self.batches(columns):
            for (rank, name), row in zip(named, batch.to_pylist(), strict=True):
                yield Chosen(rank, name, row)

    def _list(self, naming: Naming) -> None:
        """Write every row's name to disk, and let DuckDB read it from there."""
        path = self._folder / "listed.parquet"
        columns = ["shard", "key", "path", "caption"]
        before = 0
        with pq.ParquetWriter(path, _LISTED) as writer:
            for batch in open_captions(self._root, self._run, columns=columns):
                writer.write_table(_listed(batch, before, naming))
                before += batch.num_rows
        self._database.execute("create table listed as select * from read_parquet(?)", [str(path)])
        path.unlink()

    def _take_ids(self, ids: str) -> int:
        """Put the list into the table `ids`; how many of them name no row."""
        path = self._folder / "ids.parquet"
        with pq.ParquetWriter(path, _IDS) as writer:
            for table in _read_ids(ids):
                writer.write_table(table.cast(_IDS), row_group_size=ROW_GROUP)
        self._database.execute(
            "create table ids as select distinct shard, key from read_parquet(?)", [str(path)]
        )
        total, known = one(
            self._database,
            f"select (select count(*) from ids), (select count(*) from listed where {_AMONG})",
        )
        if total and not known:
            raise ConfigurationError(
                f"none of the {total} ids in {redact(ids)!r} is a row of run {self._run!r}: "
                "was it curated from another run or root?"
            )
        return int(total) - int(known)


class _Queue:
    """The chosen rows by their place in the run, taken from the front."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        query = "select n, rank, shard, key, name from chosen order by rank"
        found = database.cursor().execute(query).to_arrow_reader(ROW_GROUP)
        self._rows = (row for batch in found for row in zip(*_lists(batch), strict=True))
        self._next: tuple[Any, ...] | None = next(self._rows, None)

    def until(self, end: int) -> list[tuple[Any, ...]]:
        """All that come before place `end`."""
        taken = []
        while self._next is not None and self._next[0] < end:
            taken.append(self._next)
            self._next = next(self._rows, None)
        return taken


def _read_ids(url: str) -> Iterator[pa.Table]:
    try:
        missing = set(_IDS.names) - set(read_schema(url).names)
    except ShardError as error:
        raise ConfigurationError(f"cannot read the id list: {error}") from error
    if missing:
        raise ConfigurationError(
            f"{redact(url)!r} has no column {min(missing)!r}: give the ids.parquet that "
            "nightcap curate wrote"
        )
    yield from read_batches(url, _IDS.names)


def _listed(batch: pa.RecordBatch, before: int, naming: Naming) -> pa.Table:
    """The rows of `batch`, of which the first is number `before` of the run, with their names."""
    rows = batch.to_pylist()
    names = [_name(row, naming) for row in rows]
    columns = {
        "n": list(range(before, before + len(rows))),
        "shard": [row["shard"] for row in rows],
        "key": [row["key"] for row in rows],
        "name": names,
        "folded": list(map(folded, names)),
        "ok": [row["caption"] is not None for row in rows],
    }
    return pa.table(columns, _LISTED)


def _lists(batch: pa.RecordBatch) -> list[list[Any]]:
    return [column.to_pylist() for column in batch.columns]


def _name(row: dict[str, Any], naming: Naming) -> str:
    if naming == "none":
        return ""
    if naming == "member":
        return member_name(row["key"])
    if naming == "key":
        return key_name(row["shard"], row["key"])
    return path_name(row["path"], row["shard"], row["key"])
