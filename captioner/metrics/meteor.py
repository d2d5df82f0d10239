"""METEOR 1.5 (Denkowski and Lavie 2014), where Java and pycocoevalcap are at hand."""

import importlib.util
import shutil
from collections.abc import Sequence

from captioner.metrics.measure import Measure, mean_of

Tokens = Sequence[str]


def meteor_missing() -> str:
    """What METEOR lacks on this machine; empty if it can be had."""
    if not shutil.which("java"):
        return "METEOR needs Java: install a JRE"
    if importlib.util.find_spec("pycocoevalcap") is None:
        return "METEOR needs pycocoevalcap: install nightcap[java]"
    return ""


def meteor(captions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> Measure:
    """The mean METEOR of the captions, each against its own references.

    Published figures are of the whole set as one text, and differ in the third digit.
    """
    from pycocoevalcap.meteor.meteor import Meteor  # noqa: PLC0415 - an extra

    said = {at: [" ".join(tokens)] for at, tokens in enumerate(captions)}
    known = {at: [" ".join(one) for one in row] for at, row in enumerate(references)}
    _, scores = Meteor().compute_score(known, said)
    return mean_of([float(score) for score in scores])
