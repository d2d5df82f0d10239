"""The candidate captions of one picture: which is best, and what a shard's came to in sums."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from captioner.captions import Caption


@dataclass(frozen=True, slots=True)
class Candidate:
    """One caption with its scores; None where there is no scorer, no text or no embedding."""

    caption: Caption
    clip_sim: float | None
    """Cosine with its own picture."""
    other_sim: float | None
    """Cosine with the next picture, which it should not fit as well."""

    def to_row(self) -> dict[str, Any]:
        """As in `storage.schema.CAPTION`."""
        return {
            "text": self.caption.text,
            "logprob": self.caption.logprob,
            "n_tokens": self.caption.n_tokens,
            "clip_sim": self.clip_sim,
            "seed": self.caption.seed,
        }


def distinct(captions: Sequence[Caption]) -> list[Caption]:
    """The captions of one picture without those that say again what an earlier one says."""
    return list({caption.text: caption for caption in reversed(captions)}.values())[::-1]


def best_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By clip_sim if all have one, then by log-probability, which has to be finite, then text."""
    sound = [one for one in candidates if isfinite(one.caption.logprob)]
    scored = all(one.clip_sim is not None for one in sound)

    def order(one: Candidate) -> tuple[float, float, str]:
        score = one.clip_sim if scored and one.clip_sim is not None else 0.0
        return (-score, -one.caption.logprob, one.caption.text)

    return sorted(sound, key=order)


@dataclass(slots=True)
class Tally:
    """Sums over a shard's captioned rows, for its receipt: what its Parquet cannot tell."""

    rows: int = 0
    unstopped: int = 0
    """Best captions that `max_tokens` cut: no end token, no stop string."""
    candidates: int = 0
    """Candidates that were different, all rows together."""
    scored: int = 0
    """Rows whose first draw and best caption have a score."""
    first: float = 0.0
    best: float = 0.0
    aligned: int = 0
    """Rows whose best caption was also scored against the next picture."""
    margin: float = 0.0
    squares: float = 0.0

    def add(self, drawn: Sequence[Candidate], ranked: Sequence[Candidate]) -> None:
        """Count one picture: its candidates as drawn, and best first."""
        if not ranked:
            return
        best, first = ranked[0], drawn[0].clip_sim
        self.rows += 1
        self.unstopped += not best.caption.stopped
        self.candidates += len(drawn)
        if best.clip_sim is None:
            return
        if first is not None:
            self.scored += 1
            self.first += first
            self.best += best.clip_sim
        if best.other_sim is not None:
            self.aligned += 1
            self.margin += best.clip_sim - best.other_sim
            self.squares += (best.clip_sim - best.other_sim) ** 2

    def facts(self) -> dict[str, Any]:
        """For a receipt: plain numbers, rounded so that they do not end in noise."""
        sums = {name: round(getattr(self, name), 6) for name in self.__slots__}
        return {"quality": sums}
