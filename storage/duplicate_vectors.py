"""All pairs of embeddings from a cosine up: exact, in clusters so that far rows are not compared.

As in SemDeDup (arXiv 2303.09540), rows are clustered by k-means and compared inside clusters. A
pair across a border is not lost: its rows lie within sqrt(2 - 2 cosine) of each other, so both lie
that near to the plane between their centres, and only such rows of two clusters are compared.

Shapes:  N rows   C embedding   K clusters   P pairs
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

SLACK = 1e-4
"""A matrix product may be off by so much: candidates are taken from below, then verified."""
BLOCK = 2048
ROWS_PER_CLUSTER = 2048
SAMPLE = 64
"""Rows a cluster that k-means looks at."""


def similar_pairs(
    image_NC: Floats, row_N: Numbers, cosine: float, folder: Path
) -> Iterator[tuple[Numbers, Numbers]]:
    """Pairs (i, j) out of `row_N` whose embeddings, of length 1, have at least this cosine."""
    row_N = np.sort(row_N)
    if len(row_N) <= 2 * ROWS_PER_CLUSTER:
        yield from _within(image_NC, row_N, cosine)
        return
    centre_KC = _centres(image_NC, row_N)
    owner_N, near = _assign(image_NC, row_N, centre_KC, cosine, folder)
    members = [np.flatnonzero(owner_N == number) for number in range(len(centre_KC))]
    for one, mine in enumerate(members):
        yield from _within(image_NC, row_N[mine], cosine)
        flags = np.unpackbits(near[mine], axis=1, count=len(centre_KC)).astype(bool)
        for other in np.flatnonzero(flags.any(axis=0)):
            if other > one:
                theirs = members[other]
                back = np.unpackbits(near[theirs], axis=1, count=len(centre_KC))[:, one]
                left, right = row_N[mine[flags[:, other]]], row_N[theirs[back.astype(bool)]]
                yield from _between(image_NC, left, right, cosine)


def cosines(image_NC: Floats, i_P: Numbers, j_P: Numbers) -> npt.NDArray[np.float64]:
    """The cosine of each pair, the same bits in whatever company it is computed."""
    found = np.empty(len(i_P))
    for start in range(0, len(i_P), BLOCK):
        part = slice(start, start + BLOCK)
        one = image_NC[i_P[part]].astype(np.float64)
        found[part] = (one * image_NC[j_P[part]]).sum(axis=1)
    return found


def _within(image_NC: Floats, row_N: Numbers, cosine: float) -> Iterator[tuple[Numbers, Numbers]]:
    for start in range(0, len(row_N), BLOCK):
        yield from _between(image_NC, row_N[start : start + BLOCK], row_N[start:], cosine)


def _between(
    image_NC: Floats, left_N: Numbers, right_N: Numbers, cosine: float
) -> Iterator[tuple[Numbers, Numbers]]:
    for at in range(0, len(left_N), BLOCK):
        left = left_N[at : at + BLOCK]
        mine = np.ascontiguousarray(image_NC[left])
        for to in range(0, len(right_N), BLOCK):
            right = right_N[to : to + BLOCK]
            i, j = np.nonzero(mine @ image_NC[right].T >= cosine - SLACK)
            i, j = left[i], right[j]
            i, j = np.minimum(i, j)[i != j], np.maximum(i, j)[i != j]
            fine = cosines(image_NC, i, j) >= cosine
            if fine.any():
                yield i[fine], j[fine]


def _centres(image_NC: Floats, row_N: Numbers) -> Floats:
    """k-means on a seeded sample; how good it is costs time, never a pair."""
    draw = np.random.default_rng(0)
    count = max(2, len(row_N) // ROWS_PER_CLUSTER)
    sample = row_N[np.sort(draw.choice(len(row_N), min(len(row_N), SAMPLE * count), replace=False))]
    point_SC = np.ascontiguousarray(image_NC[sample])
    centre_KC = point_SC[np.sort(draw.choice(len(point_SC), count, replace=False))].copy()
    for _ in range(8):
        owner_S = (point_SC @ centre_KC.T).argmax(axis=1)
        summed = np.zeros_like(centre_KC)
        np.add.at(summed, owner_S, point_SC)
        length = np.linalg.norm(summed, axis=1, keepdims=True)
        centre_KC = np.where(length > 0, summed / np.maximum(length, 1e-12), centre_KC)
    return centre_KC


def _assign(
    image_NC: Floats, row_N: Numbers, centre_KC: Floats, cosine: float, folder: Path
) -> tuple[Numbers, npt.NDArray[np.uint8]]:
    """Each row's cluster, and as packed bits the others whose border it lies near to."""
    reach = np.sqrt(max(0.0, 2 - 2 * cosine))
    apart_KK = np.linalg.norm(centre_KC[:, None] - centre_KC[None], axis=2)
    owner_N = np.empty(len(row_N), np.int64)
    shape = (len(row_N), -(-len(centre_KC) // 8))
    near = np.memmap(folder / "borders", np.uint8, "w+", shape=shape)
    for at in range(0, len(row_N), BLOCK):
        likeness_BK = image_NC[row_N[at : at + BLOCK]] @ centre_KC.T
        own = likeness_BK.argmax(axis=1)
        owner_N[at : at + BLOCK] = own
        lead_BK = likeness_BK.max(axis=1, keepdims=True) - likeness_BK
        near[at : at + BLOCK] = np.packbits(lead_BK <= reach * apart_KK[own] + SLACK, axis=1)
    return owner_N, near
