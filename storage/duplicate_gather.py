"""Numbers the rows of both sets and takes their hashes and embeddings at hand.

Held in memory are 17 bytes a row; identities lie in DuckDB, embeddings in a scratch file.

Shapes:  N rows, ours before the held-out ones   C embedding
"""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.duplicate_methods import Methods
from storage.duplicate_pairs import Prints
from storage.duplicate_rows import Origin, scatter
from storage.errors import ConfigurationError
from storage.tables import one


def gather(
    database: duckdb.DuckDBPyConnection,
    ours: Origin,
    theirs: Origin | None,
    methods: Methods,
    folder: Path,
) -> Prints:
    """Number every row, ours first, and take its hashes and embedding at hand."""
    database.execute(
        "create or replace table prints (ordinal bigint, ours boolean, shard varchar, "
        "key varchar, sha256 varchar, phash ubigint, score float)"
    )
    count = 0
    for origin in (ours, theirs) if theirs else (ours,):
        for table in origin.prints():
            numbers = np.arange(count, count + len(table))
            mine = np.full(len(table), origin is ours)
            given = table.append_column("ordinal", pa.array(numbers)).append_column(
                "ours", pa.array(mine)
            )
            database.register("given", given)
            database.execute(
                "insert into prints select ordinal, ours, shard, key, sha256, phash, score "
                "from given"
            )
            database.unregister("given")
            count += len(table)
    own = int(one(database, "select count(*) from prints where ours")[0])
    phash_N, has_phash = _column(database, "phash", np.dtype(np.uint64), count)
    rank_N, _ = _column(
        database, "row_number() over (order by shard, key, ordinal) - 1", np.dtype(np.int64), count
    )
    image_NC = np.zeros((count, 0), np.float32)
    if methods.needs_embeddings:
        image_NC = _embeddings(database, ours, theirs, folder, count)
    prints = Prints(database, own, rank_N, phash_N, has_phash, image_NC)
    _refuse_nothing(prints, methods)
    return prints


def _column(
    database: duckdb.DuckDBPyConnection, expression: str, kind: np.dtype[Any], count: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """One value a row in order of number, and whether it is there."""
    values, there = np.zeros(count, kind), np.zeros(count, bool)
    reader = database.execute(f"select ordinal, {expression} as value from prints").to_arrow_reader(
        100_000
    )
    for batch in reader:
        at, valid = np.asarray(batch["ordinal"]), np.asarray(batch["value"].is_valid())
        values[at[valid]] = np.asarray(batch["value"].drop_null())
        there[at] = valid
    return values, there


def _embeddings(
    database: duckdb.DuckDBPyConnection,
    ours: Origin,
    theirs: Origin | None,
    folder: Path,
    count: int,
) -> npt.NDArray[np.float32]:
    path, widths = folder / "images", set()
    for origin in (ours, theirs) if theirs else (ours,):

        def places(shard: str, *, mine: bool = origin is ours) -> dict[str, int]:
            query = "select key, ordinal from prints where shard = ? and ours = ?"
            return dict(database.execute(query, [shard, mine]).fetchall())

        if (width := scatter(origin, places, path, count)) > 0:
            widths.add(width)
    if len(widths) > 1:
        raise ConfigurationError(
            f"the held-out set has embeddings of another width ({sorted(widths)}): embed it with "
            "the same encoder"
        )
    if not widths:
        return np.zeros((count, 0), np.float32)
    return np.memmap(path, np.float32, "r", shape=(count, widths.pop()))


def _refuse_nothing(prints: Prints, methods: Methods) -> None:
    """A method that has nothing to look at finds nothing, which would read as "no duplicates"."""
    if not len(prints.rank_N):
        return
    hashed = one(prints.database, "select count(sha256) from prints where ours")[0]
    there = {
        "sha256": bool(hashed),
        "phash": bool(prints.has_phash[: prints.ours].any()),
        "embedding": prints.image_NC.shape[1] > 0,
    }
    for kind in methods.by:
        for part in kind.split("+"):
            if prints.ours and not there[part]:
                raise ConfigurationError(
                    f"no row has a value for {part}, so duplicates cannot be told by {kind}: "
                    "choose other methods"
                )
