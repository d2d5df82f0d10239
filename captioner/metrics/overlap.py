"""BLEU, ROUGE-L and CIDEr-D of tokenised captions, as COCO's evaluation computes them.

Formulas and quirks are those of pycocoevalcap, so that figures compare with published ones.
Shapes:  N captions   K figures of one caption   R resamples
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from captioner.metrics.cider import Rarity, cider_d
from captioner.metrics.measure import Floats, Measure, mean_of

Tokens = Sequence[str]
Counts = Counter[tuple[str, ...]]
ORDERS = 4
_TINY, _SMALL = 1e-15, 1e-9
_BETA = 1.2


def overlap_measures(
    captions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> dict[str, Measure]:
    """BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D; row i of `references` belongs to caption i.

    CIDEr-D weighs n-grams by how rare they are among these very references: its values compare
    only over the same pictures. ValueError for a caption without references.
    """
    if len(captions) != len(references) or not all(references):
        raise ValueError("every caption needs at least one reference")
    rarity = Rarity()
    for row in references:
        rarity.add([ngrams(tokens) for tokens in row])
    bleu, rouge, cider = [], [], []
    for caption, row in zip(captions, references, strict=True):
        said, known = ngrams(caption), [ngrams(tokens) for tokens in row]
        bleu.append(_bleu_row(said, known))
        rouge.append(rouge_l(caption, row))
        cider.append(cider_d(said, known, rarity))
    rows_NK = np.array(bleu, dtype=np.float64).reshape(-1, 2 * ORDERS + 2)
    measures = {f"BLEU-{n}": Measure(rows_NK, _Bleu(n)) for n in range(1, ORDERS + 1)}
    return measures | {"ROUGE-L": mean_of(rouge), "CIDEr-D": mean_of(cider)}


def ngrams(tokens: Tokens) -> Counts:
    """How often each run of one to four tokens occurs."""
    return Counter(
        tuple(tokens[at : at + n])
        for n in range(1, ORDERS + 1)
        for at in range(len(tokens) - n + 1)
    )


def rouge_l(caption: Tokens, references: Sequence[Tokens]) -> float:
    """ROUGE-L (Lin 2004) with beta 1.2; best precision and best recall over all references."""
    shared = [longest_common(caption, reference) for reference in references]
    precision = max(shared) / max(1, len(caption))
    recall = max(
        common / max(1, len(reference))
        for common, reference in zip(shared, references, strict=True)
    )
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def longest_common(one: Tokens, other: Tokens) -> int:
    """Length of the longest common subsequence."""
    before = [0] * (len(other) + 1)
    for token in one:
        row = [0]
        for at, word in enumerate(other):
            row.append(before[at] + 1 if token == word else max(before[at + 1], row[at]))
        before = row
    return before[-1]


def _bleu_row(caption: Counts, references: Sequence[Counts]) -> list[int]:
    """Matches and guesses of each order, then the lengths of caption and closest reference."""
    most: Counts = Counter()
    for reference in references:
        most |= reference
    clipped = caption & most
    matches, guesses = [0] * ORDERS, [0] * ORDERS
    for ngram, count in clipped.items():
        matches[len(ngram) - 1] += count
    for ngram, count in caption.items():
        guesses[len(ngram) - 1] += count
    length = guesses[0]
    lengths = [sum(n for ngram, n in one.items() if len(ngram) == 1) for one in references]
    closest = min(lengths, key=lambda n: (abs(n - length), n))
    return [*matches, *guesses, length, closest]


class _Bleu:
    """BLEU-n of sums (Papineni et al. 2002), smoothed by tiny numbers as pycocoevalcap does."""

    def __init__(self, order: int) -> None:
        self.order = order

    def __call__(self, sums_RK: Floats) -> Floats:
        matches_RO = sums_RK[:, : self.order]
        guesses_RO = sums_RK[:, ORDERS : ORDERS + self.order]
        precision_RO = (matches_RO + _TINY) / (guesses_RO + _SMALL)
        mean_R: Floats = np.exp(np.log(precision_RO).mean(axis=1))
        ratio_R = (sums_RK[:, -2] + _TINY) / (sums_RK[:, -1] + _SMALL)
        brevity_R: Floats = np.exp(1 - 1 / np.minimum(ratio_R, 1.0))
        return mean_R * brevity_R
