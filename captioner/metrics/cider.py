"""CIDEr-D (Vedantam et al. 2015, arXiv 1411.5726), with the quirks behind COCO's figures.

Lengths are counted in bigrams, and idf comes from the references that are given.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Counts = Counter[tuple[str, ...]]
ORDERS = 4
SIGMA = 6.0


@dataclass(frozen=True, slots=True)
class _Vector:
    weights: tuple[dict[tuple[str, ...], float], ...]
    norms: tuple[float, ...]
    length: int
    """Bigrams."""


class Rarity:
    """How many pictures' references hold each n-gram; read once, before any caption is scored."""

    def __init__(self) -> None:
        self._seen: Counts = Counter()
        self._pictures = 0

    def add(self, references: Sequence[Counts]) -> None:
        """Count one picture in."""
        self._pictures += 1
        self._seen.update({ngram for one in references for ngram in one})

    def idf(self, ngram: tuple[str, ...]) -> float:
        """Logarithm of pictures in all over those whose references hold `ngram`."""
        return math.log(self._pictures) - math.log(max(1, self._seen[ngram]))


def cider_d(caption: Counts, references: Sequence[Counts], rarity: Rarity) -> float:
    """CIDEr-D of one caption, from 0 to 10."""
    said = _vector(caption, rarity)
    alike = [_alike(said, _vector(one, rarity)) for one in references]
    return 10.0 * sum(alike) / len(alike)


def _vector(counts: Counts, rarity: Rarity) -> _Vector:
    weights: tuple[dict[tuple[str, ...], float], ...] = tuple({} for _ in range(ORDERS))
    for ngram, count in counts.items():
        weights[len(ngram) - 1][ngram] = count * rarity.idf(ngram)
    norms = tuple(math.sqrt(sum(w * w for w in part.values())) for part in weights)
    length = sum(count for ngram, count in counts.items() if len(ngram) == 2)
    return _Vector(weights, norms, length)


def _alike(said: _Vector, known: _Vector) -> float:
    """The mean over orders of the clipped cosine, lowered where lengths differ."""
    penalty = math.exp(-((said.length - known.length) ** 2) / (2 * SIGMA**2))
    cosines = []
    for ours, theirs, norm, other in zip(
        said.weights, known.weights, said.norms, known.norms, strict=True
    ):
        shared = sum(min(w, theirs[n]) * theirs[n] for n, w in ours.items() if n in theirs)
        cosines.append(shared / (norm * other) if norm and other else shared)
    return penalty * sum(cosines) / ORDERS
