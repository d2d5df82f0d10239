"""Rows that belong together: connected components, whatever the order in which pairs come.

Shapes:  N rows of both sets, ours first   P pairs
"""

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


class Groups:
    """Union-find over our rows; a pair with a row of the held-out set is remembered apart."""

    def __init__(self, ours: int, rank_N: Numbers) -> None:
        """`rank_N` orders the rows by shard and key, so that the smallest match can be told."""
        self._ours = ours
        self._rank_N = rank_N
        self._parent_N = np.arange(ours, dtype=np.int64)
        self.match_N = np.full(ours, -1, dtype=np.int64)
        """For each of our rows the held-out row that it matches, smallest first, or -1."""
        self._best_N = np.full(ours, len(rank_N), dtype=np.int64)

    def open(self, i_P: Numbers, j_P: Numbers) -> npt.NDArray[np.bool_]:
        """Which pairs would still tell something new."""
        i_P, j_P = np.minimum(i_P, j_P), np.maximum(i_P, j_P)
        inside = j_P < self._ours
        new = (i_P < self._ours) & ~inside
        new[inside] = self._parent_N[i_P[inside]] != self._parent_N[j_P[inside]]
        return new

    def join(self, i_P: Numbers, j_P: Numbers) -> None:
        """Say that each pair belongs together."""
        i_P, j_P = np.minimum(i_P, j_P), np.maximum(i_P, j_P)
        inside = j_P < self._ours
        self._unite(i_P[inside], j_P[inside])
        across = (i_P < self._ours) & ~inside
        np.minimum.at(self._best_N, i_P[across], self._rank_N[j_P[across]])

    def finish(self) -> Numbers:
        """The smallest row number of each row's group, and `match_N` filled."""
        by_rank = np.empty(len(self._rank_N) + 1, dtype=np.int64)
        by_rank[self._rank_N] = np.arange(len(self._rank_N))
        by_rank[-1] = -1
        self.match_N = by_rank[self._best_N]
        return self._parent_N

    def _unite(self, i_P: Numbers, j_P: Numbers) -> None:
        parent_N = self._parent_N
        while len(i_P):
            one, other = parent_N[i_P], parent_N[j_P]
            apart = one != other
            i_P, j_P, one, other = i_P[apart], j_P[apart], one[apart], other[apart]
            np.minimum.at(parent_N, np.maximum(one, other), np.minimum(one, other))
            while not np.array_equal(higher := parent_N[parent_N], parent_N):
                parent_N = higher
        self._parent_N = parent_N
