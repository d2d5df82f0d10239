"""How far a measure would move with other pictures: percentile bootstrap over captions.

Shapes:  N captions   K figures of one caption   R resamples
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from captioner.metrics.measure import Floats, Measure

RESAMPLES = 1000
_CELLS = 4_000_000
"""Numbers of one block of resamples: 32 MB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def intervals(measures: Mapping[str, Measure], *, seed: int = 0) -> dict[str, Interval]:
    """Every measure with its interval (Efron 1979), from 1,000 resamples of the same pictures."""
    drawn = _drawn(measures, seed)
    return {name: _interval(measure.value, drawn[name]) for name, measure in measures.items()}


def compare(
    ours: Mapping[str, Measure], theirs: Mapping[str, Measure], *, seed: int = 0
) -> dict[str, Interval]:
    """Ours minus theirs, paired: both are resampled by the same pictures.

    The rows of both must belong to the same pictures in the same order. An interval that leaves
    out 0 is a difference that other pictures of the kind would show too.
    """
    mine, other = _drawn(ours, seed), _drawn(theirs, seed)
    return {
        name: _interval(ours[name].value - theirs[name].value, mine[name] - other[name])
        for name in ours
        if name in theirs
    }


def _drawn(measures: Mapping[str, Measure], seed: int) -> dict[str, Floats]:
    """Each measure of every resample, the same resamples for all."""
    found: dict[str, list[Floats]] = {name: [] for name in measures}
    count = len(next(iter(measures.values())).rows_NK)
    for weight_RN in _resamples(count, seed):
        for name, measure in measures.items():
            found[name].append(measure.score(weight_RN @ measure.rows_NK))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _resamples(count: int, seed: int) -> Iterator[Floats]:
    """How often each caption is in a resample, in blocks weight_RN."""
    rng = np.random.default_rng(seed)
    block = max(1, min(RESAMPLES, _CELLS // max(1, count)))
    for start in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - start)
        draws = rng.integers(count, size=(size, count))
        yield np.stack([np.bincount(row, minlength=count) for row in draws]).astype(np.float64)


def _interval(value: float, drawn_R: Floats) -> Interval:
    low, high = np.quantile(drawn_R, [0.025, 0.975])
    return Interval(value, float(low), float(high))
