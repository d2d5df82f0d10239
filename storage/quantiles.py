"""Exact quantiles of more numbers than fit in memory: they are spooled to disk and counted twice.

A float32's bits, sign aside, sort as it does. The first pass counts their upper 16 bits, which
finds the few of 65,536 bins that hold a wanted rank; the second counts the lower 16 of those.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

POINTS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_BINS = 1 << 16
_CHUNK = 1 << 20

Keys = npt.NDArray[np.uint32]


class Spool:
    """Numbers written to the new file at `path`, of which quantiles are asked at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts = np.zeros(_BINS, dtype=np.int64)
        self.total = 0.0
        path.write_bytes(b"")

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count finite values in."""
        if not len(values):
            return
        keys = _keys(values)
        self._counts += np.bincount(keys >> 16, minlength=_BINS)
        self.total += float(values.astype(np.float64).sum())
        with self._path.open("ab") as file:
            file.write(keys.tobytes())

    @property
    def count(self) -> int:
        """How many values there are."""
        return int(self._counts.sum())

    def mean(self) -> float | None:
        """Their mean, None if there are none."""
        return self.total / self.count if self.count else None

    def quantiles(self, points: Sequence[float] = POINTS) -> dict[str, float] | None:
        """`{"p50": …}` for each point, interpolated linearly between ranks; None if none are."""
        if not self.count:
            return None
        places = [point * (self.count - 1) for point in points]
        ranks = sorted({int(end) for at in places for end in (np.floor(at), np.ceil(at))})
        value = self._at(ranks)
        return {
            f"p{round(point * 100)}": _between(value, at)
            for point, at in zip(points, places, strict=True)
        }

    def histogram(self, most: int, *, whole: bool = False) -> tuple[list[float], list[int]]:
        """Edges and counts of at most so many equal bins, from about the first to the last percent.

        What lies beyond is counted in the outer bins. `whole` numbers get bins of whole widths.
        No bins where there are no values, one where all are equal.
        """
        if not self.count:
            return [], []
        low, high = (self._at([rank])[rank] for rank in _ends(self.count))
        edges = _whole_edges(low, high, most) if whole else np.linspace(low, high, most + 1)
        bins = len(edges) - 1
        if low == high:
            return [low, edges[-1] if whole else low], [self.count]
        counts = np.zeros(bins, dtype=np.int64)
        for keys in self._read():
            places = np.searchsorted(edges, _values(keys), side="right") - 1
            counts += np.bincount(np.clip(places, 0, bins - 1), minlength=bins)
        return edges.tolist(), counts.tolist()

    def _at(self, ranks: list[int]) -> dict[int, float]:
        """The value at each rank, from 0."""
        upto = np.cumsum(self._counts)
        bins = {rank: int(np.searchsorted(upto, rank, side="right")) for rank in ranks}
        inner = {number: np.zeros(_BINS, dtype=np.int64) for number in bins.values()}
        for keys in self._read():
            upper = keys >> 16
            for number in inner:
                lower = keys[upper == number] & (_BINS - 1)
                inner[number] += np.bincount(lower, minlength=_BINS)
        found = {}
        for rank, number in bins.items():
            left = rank - (int(upto[number - 1]) if number else 0)
            rest = int(np.searchsorted(np.cumsum(inner[number]), left, side="right"))
            found[rank] = _value(number << 16 | rest)
        return found

    def _read(self) -> Iterator[Keys]:
        with self._path.open("rb") as file:
            while data := file.read(4 * _CHUNK):
                yield np.frombuffer(data, dtype=np.uint32)


def _keys(values: npt.NDArray[np.float32]) -> Keys:
    """Unsigned numbers that sort as the floats do."""
    bits = values.astype(np.float32).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint32)


def _values(keys: Keys) -> npt.NDArray[np.float32]:
    """The floats again."""
    bits = np.where(keys >> 31, keys ^ np.uint32(1 << 31), ~keys).astype(np.uint32)
    return bits.view(np.float32)


def _whole_edges(low: float, high: float, most: int) -> npt.NDArray[np.float64]:
    """Edges between whole numbers, the last above `high`."""
    width = int(-(-(high - low + 1) // most))
    return np.arange(low, high + width + 1, width, dtype=np.float64)


def _ends(count: int) -> tuple[int, int]:
    """Ranks of the first and the last percent; the ends themselves of few values."""
    cut = count // 100 if count >= 1000 else 0
    return cut, count - 1 - cut


def _value(key: int) -> float:
    bits = np.array([key ^ (1 << 31) if key >> 31 else ~key & 0xFFFFFFFF], dtype=np.uint32)
    return float(bits.view(np.float32)[0])


def _between(value: dict[int, float], at: float) -> float:
    low, high = value[int(np.floor(at))], value[int(np.ceil(at))]
    return low + (high - low) * (at - float(np.floor(at)))
