"""Captions against references: BLEU, ROUGE-L and CIDEr-D without Java, CLIPScore, intervals.

Every measure is a sum over rows and a function of the sum, so that any resample is cheap.
"""

from captioner.metrics.bootstrap import Interval, compare, intervals
from captioner.metrics.measure import Measure, mean_of
from captioner.metrics.overlap import overlap_measures
from captioner.metrics.words import tokenize

__all__ = [
    "Interval",
    "Measure",
    "compare",
    "intervals",
    "mean_of",
    "overlap_measures",
    "tokenize",
]
