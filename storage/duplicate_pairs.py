"""Pairs of rows that each method calls duplicates.

Shapes:  N rows   U distinct hashes   P pairs   C embedding
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

from storage.duplicate_hashes import CHUNK, near_pairs
from storage.duplicate_methods import Methods
from storage.duplicate_vectors import cosines, similar_pairs

Numbers = npt.NDArray[np.int64]
Pairs = Iterator[tuple[Numbers, Numbers]]
Open = Callable[[Numbers, Numbers], npt.NDArray[np.bool_]]
"""Which pairs would still tell something: others need not be verified."""

MANY = 64
"""Rows of one hash from which on they are compared by matrix."""


@dataclass(slots=True)
class Prints:
    """What every row is told by; sha256 stays in the table `prints`."""

    database: duckdb.DuckDBPyConnection
    ours: int
    rank_N: Numbers
    phash_N: npt.NDArray[np.uint64]
    has_phash: npt.NDArray[np.bool_]
    image_NC: npt.NDArray[np.float32]
    """At length 1; all zeros where there is none; of width 0 if nobody asked."""
    has_image: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.has_image = np.zeros(len(self.image_NC), bool)
        for at in range(0, len(self.image_NC) if self.image_NC.shape[1] else 0, 1 << 16):
            self.has_image[at : at + (1 << 16)] = self.image_NC[at : at + (1 << 16)].any(axis=1)


def pairs_by(kind: str, prints: Prints, methods: Methods, still: Open, folder: Path) -> Pairs:
    """The pairs of one method, enough of them to connect whatever is connected."""
    cosine = methods.cosine_for(kind)
    if kind == "sha256":
        yield _copies(prints)
    elif kind == "embedding":
        rows = np.flatnonzero(prints.has_image)
        yield from similar_pairs(prints.image_NC, rows, cosine, folder)
    elif kind == "phash":
        yield from _near(prints, methods.distance_for(kind))
    else:
        yield from _confirmed(prints, methods, still, folder)


def _copies(prints: Prints) -> tuple[Numbers, Numbers]:
    """Each row with the first of its bytes, and with the smallest held-out one."""
    table = prints.database.execute(
        "select ordinal, other from (select ordinal, ours, unnest(list_distinct([min(ordinal) "
        "filter (where ours) over same, arg_min(ordinal, (shard, key)) filter (where not ours) "
        "over same])) as other from prints where sha256 is not null "
        "window same as (partition by sha256)) where ours and other <> ordinal"
    ).to_arrow_table()
    return np.asarray(table["ordinal"]), np.asarray(table["other"])


def _near(prints: Prints, distance: int) -> Pairs:
    """By hash alone. One of ours stands for all of ours that have its hash, and the smallest
    held-out row for all held-out ones.
    """
    row_N = np.flatnonzero(prints.has_phash)
    hash_U, hash_N = np.unique(prints.phash_N[row_N], return_inverse=True)
    mine = row_N < prints.ours
    own_U = _smallest(hash_N[mine], row_N[mine], prints, len(hash_U))
    held_U = _smallest(hash_N[~mine], row_N[~mine], prints, len(hash_U))
    yield row_N[mine], own_U[hash_N[mine]]
    yield from _held(row_N[mine], held_U[hash_N[mine]])
    members = _by_hash(prints, row_N[mine])[1] if (~mine).any() else None
    known_V = np.unique(hash_N[mine])
    place_U = np.full(len(hash_U), -1, np.int64)
    place_U[known_V] = np.arange(len(known_V))
    for i_U, j_U in near_pairs(hash_U, distance):
        both = (own_U[i_U] >= 0) & (own_U[j_U] >= 0)
        yield own_U[i_U[both]], own_U[j_U[both]]
        for here, there in ((i_U, j_U), (j_U, i_U)) if members else ():
            some = (own_U[here] >= 0) & (held_U[there] >= 0)
            starts, rows = members  # type: ignore[misc]
            place = place_U[here[some]]
            many = starts[place + 1] - starts[place]
            offset = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
            yield (
                rows[np.repeat(starts[place], many) + offset],
                np.repeat(held_U[there[some]], many),
            )


def _held(i_P: Numbers, j_P: Numbers) -> Pairs:
    yield i_P[j_P >= 0], j_P[j_P >= 0]


def _smallest(hash_P: Numbers, row_P: Numbers, prints: Prints, count: int) -> Numbers:
    """Of each hash the row that comes first by shard and key, -1 where there is none."""
    found = np.full(count, -1, np.int64)
    order = np.argsort(-prints.rank_N[row_P])
    found[hash_P[order]] = row_P[order]  # the last that is written stays
    return found


def _confirmed(prints: Prints, methods: Methods, still: Open, folder: Path) -> Pairs:
    """By hash, then by embedding."""
    kind = "phash+embedding"
    distance, cosine = methods.distance_for(kind), methods.cosine_for(kind)
    hash_U, members = _by_hash(prints, np.flatnonzero(prints.has_phash & prints.has_image))
    starts, row_N = members
    many = np.flatnonzero(np.diff(starts) > MANY)
    for number in many:
        rows = row_N[starts[number] : starts[number + 1]]
        yield from similar_pairs(prints.image_NC, rows, cosine, folder)
    few = np.flatnonzero(np.diff(starts) <= MANY)
    for i_U, j_U in ((few, few), *near_pairs(hash_U, distance)):
        for i_P, j_P in _expand(members, i_U, j_U):
            new = still(i_P, j_P)
            i_P, j_P = i_P[new], j_P[new]  # noqa: PLW2901
            fine = cosines(prints.image_NC, i_P, j_P) >= cosine
            yield i_P[fine], j_P[fine]


def _by_hash(
    prints: Prints, row_N: Numbers
) -> tuple[npt.NDArray[np.uint64], tuple[Numbers, Numbers]]:
    """Distinct hashes, and the rows of each as starts into a list."""
    order = row_N[np.argsort(prints.phash_N[row_N], kind="stable")]
    hash_U, first = np.unique(prints.phash_N[order], return_index=True)
    return hash_U, (np.append(first, len(order)).astype(np.int64), order)


def _expand(members: tuple[Numbers, Numbers], i_U: Numbers, j_U: Numbers) -> Pairs:
    """Every row of one hash with every row of the other, a bounded number at a time."""
    starts, row_N = members
    size_U = np.diff(starts)
    for some in _portions(size_U[i_U] * size_U[j_U]):
        i_V, j_V = i_U[some], j_U[some]
        many = size_U[i_V] * size_U[j_V]
        pair = np.repeat(np.arange(len(i_V)), many)
        place = np.arange(len(pair)) - np.repeat(np.cumsum(many) - many, many)
        wide = size_U[j_V][pair]
        i_P = row_N[starts[i_V][pair] + place // wide]
        j_P = row_N[starts[j_V][pair] + place % wide]
        apart = i_P < j_P if np.array_equal(i_V, j_V) else i_P != j_P
        yield i_P[apart], j_P[apart]


def _portions(size_P: Numbers) -> Iterator[slice]:
    """Slices whose sizes come to about a chunk; a larger single one stands alone."""
    bound = np.cumsum(size_P) // CHUNK
    edges = [0, *(np.flatnonzero(np.diff(bound)) + 1).tolist(), len(size_P)]
    for start, end in pairwise(edges):
        if end > start:
            yield slice(start, end)
