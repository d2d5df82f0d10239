"""What captions look like as texts: variety, repetition, boilerplate, length; no reference needed.

Words are runs of letters and digits, in lower case. What depends on how many captions are looked
at (vocabulary, distinct-n) compares only between samples of one size.
"""

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, quantiles
from typing import Any

WINDOW = 128
"""Characters at a caption's end in which a long repeat is looked for."""
LONG_REPEAT = 70
"""Characters that may stand twice there; more counts as a failure in VLM-Captioning-Tools too."""
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def text_measures(captions: Sequence[str]) -> dict[str, Any] | None:
    """Measures of `captions`, shares from 0 to 1; None if there are none."""
    if not captions:
        return None
    words = [_WORD.findall(caption.lower()) for caption in captions]
    pairs = [list(pairwise(row)) for row in words]
    openings = Counter(" ".join(row[:3]) for row in words)
    opening, times = min(openings.items(), key=lambda one: (-one[1], one[0]))
    packed = [_packed(caption) for caption in captions]
    measures: dict[str, Any] = {
        "captions": len(captions),
        "vocabulary": len({word for row in words for word in row}),
        "distinct_1": _distinct(words),
        "distinct_2": _distinct(pairs),
        "repeated_3gram_share": _share([_repeats(row) for row in words]),
        "long_repeat_share": _share([has_long_repeat(caption) for caption in captions]),
        "packed_p1": _point(packed, 1),
        "packed_p50": _point(packed, 50),
        "opening": opening,
        "opening_share": times / len(captions),
        "words_mean": fmean(len(row) for row in words),
        "words_p5": _point([len(row) for row in words], 5),
        "words_p95": _point([len(row) for row in words], 95),
        "characters_mean": fmean(map(len, captions)),
        "wordless_share": _share([not row for row in words]),
    }
    return {name: round(v, 6) if isinstance(v, float) else v for name, v in measures.items()}


def has_long_repeat(text: str) -> bool:
    """Whether more than 70 characters stand twice (they may overlap) among its last 128."""
    end = text[-WINDOW:]
    size = LONG_REPEAT + 1
    parts = [end[at : at + size] for at in range(len(end) - size + 1)]
    return len(set(parts)) < len(parts)


def _distinct(rows: Sequence[Sequence[object]]) -> float:
    """Li et al. 2016 (arXiv 1510.03055): different n-grams of all captions over all n-grams."""
    total = sum(map(len, rows))
    return len({one for row in rows for one in row}) / total if total else 0.0


def _repeats(words: Sequence[str]) -> bool:
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(triples)) < len(triples)


def _packed(text: str) -> float:
    """Size after zlib over size before: near 0.1 where a text repeats itself, 0.8 and more else."""
    raw = text.encode("utf-8", "surrogatepass")
    return len(zlib.compress(raw, 6)) / max(1, len(raw))


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)


def _point(values: Sequence[float], percent: int) -> float:
    if len(values) == 1:
        return float(values[0])
    return quantiles(values, n=100, method="inclusive")[percent - 1]
