"""A measure as what each caption adds to it, and what the sum comes to.

Shapes:  N captions   K figures of one caption   R resamples
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of a set of captions."""

    rows_NK: Floats
    score: Callable[[Floats], Floats]
    """From sums over rows, sums_RK, to the measure of each resample, score_R."""

    @property
    def value(self) -> float:
        """The measure of all captions."""
        return float(self.score(self.rows_NK.sum(axis=0, keepdims=True))[0])


def mean_of(value_N: Sequence[float] | Floats) -> Measure:
    """The mean of what each caption is worth."""
    values = np.asarray(value_N, dtype=np.float64)
    rows_N2 = np.stack([values, np.ones_like(values)], axis=1)
    return Measure(rows_N2, lambda sums_R2: sums_R2[:, 0] / sums_R2[:, 1])
