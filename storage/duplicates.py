"""Duplicates: rows of one picture, told by bytes, by perceptual hash, or by embedding.

Groups are connected components over exact pairs, so they depend on the rows alone: not on their
order, nor on shards, workers or threads.

Shapes:  N rows, ours before the held-out ones
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.commit import scratch
from storage.duplicate_gather import gather
from storage.duplicate_groups import Groups
from storage.duplicate_hashes import BITS, popcount
from storage.duplicate_methods import Methods
from storage.duplicate_output import write_duplicates
from storage.duplicate_pairs import Prints, pairs_by
from storage.duplicate_rows import Origin, open_against, open_origin
from storage.duplicate_vectors import cosines
from storage.fingerprint import fingerprint
from storage.layout import Root, open_root
from storage.tables import connect, one

TABLE = "duplicates"
"""shard, key, sha256, dup_group, dup_rank, dup_sim, dup_against of rows that have any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateOptions:
    """Among what, and where the outcome goes."""

    run: str = ""
    space: str = ""
    out: str = ""
    """Folder of the outcome; by default ROOT/duplicates/<run or space>-<fp8>."""
    dry_run: bool = False
    threads: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found."""

    among: str
    """The run or space."""
    by: tuple[str, ...]
    rows: int
    groups: int
    spare: int
    """Rows that are not the first of their group: what dropping duplicates would drop."""
    against: int
    """Rows that match the held-out set."""
    outputs: tuple[str, ...] = ()


def find_duplicates(root: str, methods: Methods, options: DuplicateOptions) -> Found:
    """Find them and write duplicates.parquet and duplicates.json.

    Raises ConfigurationError where no row has what a method looks at.
    """
    place = open_root(root)
    with (
        scratch() as folder,
        connect(folder, options.threads) as database,
        find_in(database, place, options, methods) as table,
    ):
        rows = int(one(database, "select count(*) from prints where ours")[0])
        groups, spare, against = one(
            database,
            "select count(distinct dup_group), count(*) filter (where dup_rank > 0), "
            f"count(dup_against) from {table}",
        )
        among = _name(open_origin(place, options.run, options.space))
        counts = {"rows": rows, "groups": groups, "spare": spare, "against": against}
        facts = {"among": among, **asdict(methods), **counts}
        outputs: tuple[str, ...] = ()
        if not options.dry_run:
            name = f"{among}-{fingerprint({'among': among, **asdict(methods)})[:8]}"
            home = options.out or f"{place.url}/duplicates/{name}"
            outputs = write_duplicates(database, table, facts, home, folder)
    return Found(among=among, by=methods.by, outputs=outputs, **counts)


@contextmanager
def find_in(
    database: duckdb.DuckDBPyConnection, root: Root, options: DuplicateOptions, methods: Methods
) -> Iterator[str]:
    """Fill the table of duplicates in `database`; its name, good until the context ends."""
    ours = open_origin(root, options.run, options.space)
    theirs = open_against(methods.against, ours) if methods.against else None
    with scratch() as folder:
        prints = gather(database, ours, theirs, methods, folder)
        groups = Groups(prints.ours, prints.rank_N)
        for kind in methods.by:
            for i_P, j_P in pairs_by(kind, prints, methods, groups.open, folder):
                groups.join(i_P, j_P)
        _tabulate(database, prints, groups)
        yield TABLE
        database.execute(f"drop table {TABLE}; drop table prints")


def _name(origin: Origin) -> str:
    run = getattr(origin, "run", None)
    return str(run.name) if run else origin.space


def _tabulate(database: duckdb.DuckDBPyConnection, prints: Prints, groups: Groups) -> None:
    """The table of rows that have a duplicate or a match."""
    root_N = groups.finish()
    size_N = np.bincount(root_N, minlength=len(root_N))[root_N] if len(root_N) else root_N
    rows = np.flatnonzero((size_N > 1) | (groups.match_N >= 0))
    columns = {"ordinal": rows, "root": root_N[rows], "size": size_N[rows],
               "match": groups.match_N[rows]}  # fmt: skip
    database.register("members", pa.table(columns))
    database.execute(
        "create or replace temp table ranked as select p.ordinal, p.shard, p.key, p.sha256, "
        "case when size > 1 then first_value(p.shard || '/' || p.key) over "
        "(partition by root order by p.shard, p.key) end as dup_group, "
        "case when size > 1 then row_number() over best - 1 end as dup_rank, "
        "case when size > 1 then first_value(p.ordinal) over best end as first, "
        "case when size > 1 then first_value(p.sha256) over best = p.sha256 end as copy, "
        "case when match >= 0 then o.shard || '/' || o.key end as dup_against "
        "from members m join prints p on p.ordinal = m.ordinal "
        "left join prints o on o.ordinal = m.match "
        "window best as (partition by root order by p.score desc nulls last, p.shard, p.key)"
    )
    database.unregister("members")
    database.execute("create or replace temp table likeness (ordinal bigint, dup_sim float)")
    reader = database.execute(
        "select ordinal, first, coalesce(copy, false) as copy from ranked "
        "where first is not null order by ordinal"
    ).to_arrow_table()
    ordinals, firsts = np.asarray(reader["ordinal"]), np.asarray(reader["first"])
    copies = np.asarray(reader["copy"]) | (ordinals == firsts)
    database.register("found", pa.table({
        "ordinal": ordinals, "dup_sim": likeness(prints, ordinals, firsts, copies)}))  # fmt: skip
    database.execute("insert into likeness select * from found")
    database.unregister("found")
    database.execute(
        f"create or replace table {TABLE} as select shard, key, sha256, dup_group, "
        "dup_rank::integer as dup_rank, dup_sim, dup_against from ranked left join likeness "
        "using (ordinal)"
    )
    database.execute("drop table ranked; drop table likeness")


def likeness(
    prints: Prints,
    i_P: npt.NDArray[np.int64],
    j_P: npt.NDArray[np.int64],
    copies: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float32]:
    """How like two rows are: 1 for the same bytes, else their cosine, else equal bits by 64."""
    bits = popcount(prints.phash_N[i_P] ^ prints.phash_N[j_P])
    found = np.where(prints.has_phash[i_P] & prints.has_phash[j_P], 1 - bits / BITS, np.nan)
    if prints.image_NC.shape[1]:
        both = prints.has_image[i_P] & prints.has_image[j_P]
        found[both] = cosines(prints.image_NC, i_P[both], j_P[both])
    return np.where(copies, 1.0, found).astype(np.float32)
