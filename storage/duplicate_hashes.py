"""All pairs of 64-bit hashes within a Hamming distance: exact, without comparing each with each.

The bits are cut into more blocks than may differ; two hashes within the distance agree in at least
the blocks left over. For every choice of those, hashes that agree in them are compared (Manku,
Jain and Das Sarma, WWW 2007, describe the same tables for simhash).

Shapes:  U distinct hashes   P pairs
"""

from collections.abc import Iterator
from itertools import combinations, pairwise
from math import comb

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]

BITS = 64
_MASKS = (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F)
_ONES = 0x0101010101010101
CHUNK = 1 << 20
"""Pairs held at once, about."""


def near_pairs(hash_U: Hashes, distance: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Places (i, j) of distinct hashes that differ in at most `distance` bits; some come twice."""
    if distance < 1 or len(hash_U) < 2:
        return
    for mask in block_masks(len(hash_U), distance):
        masked = hash_U & mask
        order = np.argsort(masked, kind="stable")
        for first, second in _runs(masked[order]):
            i, j = order[first], order[second]
            near = popcount(hash_U[i] ^ hash_U[j]) <= distance
            if near.any():
                yield np.minimum(i[near], j[near]), np.maximum(i[near], j[near])


def block_masks(count: int, distance: int) -> list[np.uint64]:
    """The bits that are compared first, for every choice of blocks, as cheap as can be."""

    def cost(blocks: int) -> float:
        chance = 2.0 ** (-BITS * (blocks - distance) / blocks)
        tables = comb(blocks, distance)
        return float(tables * (count * 20 + count * count / 2 * chance))

    blocks = min(range(distance + 1, distance + 5), key=cost)
    edges = [round(BITS * number / blocks) for number in range(blocks + 1)]
    parts = [((1 << high) - 1) ^ ((1 << low) - 1) for low, high in pairwise(edges)]
    chosen = combinations(parts, blocks - distance)
    return [np.uint64(sum(some)) for some in chosen]


def popcount(bits: Hashes) -> npt.NDArray[np.uint8]:
    """How many bits are set in each."""
    two, four, eight = (np.uint64(mask) for mask in _MASKS)
    bits = bits - ((bits >> np.uint64(1)) & two)
    bits = (bits & four) + ((bits >> np.uint64(2)) & four)
    bits = (bits + (bits >> np.uint64(4))) & eight
    return ((bits * np.uint64(_ONES)) >> np.uint64(56)).astype(np.uint8)


def _runs(sorted_U: Hashes) -> Iterator[tuple[Numbers, Numbers]]:
    """All pairs of places inside runs of equal values, a bounded number at a time."""
    at = np.flatnonzero(sorted_U[1:] == sorted_U[:-1])
    step = 1
    while len(at):
        for start in range(0, len(at), CHUNK):
            part = at[start : start + CHUNK]
            yield part, part + step
        step += 1
        at = at[at + step < len(sorted_U)]
        at = at[sorted_U[at + step] == sorted_U[at]]
