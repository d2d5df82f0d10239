"""Sides compared on the same inputs: in turns, in one run, medians of rounds and their spread."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.results import Row

Run = Callable[[], Mapping[str, Any]]
"""Works once; answers with `seconds` and `items`."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Items a second, one figure a round."""

    rounds: tuple[float, ...]

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        """The slowest and the fastest round."""
        return min(self.rounds), max(self.rounds)


def in_turns(sides: Mapping[str, Run], rounds: int, warm_ups: int = 1) -> dict[str, Rates]:
    """The rates of each side over `rounds`, in which all work one after the other.

    Every other round goes through them backwards, so that none always follows the same one.
    """
    for _ in range(warm_ups):
        for run in sides.values():
            run()
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        order: Sequence[str] = list(sides)
        for name in order if number % 2 == 0 else order[::-1]:
            facts = sides[name]()
            found[name].append(float(facts["items"]) / float(facts["seconds"]))
    return {name: Rates(tuple(rates)) for name, rates in found.items()}


def ratio(ours: Rates, peer: Rates) -> Rates:
    """Ours against the peer, round by round."""
    return Rates(tuple(a / b for a, b in zip(ours.rounds, peer.rounds, strict=True)))


def versus(ours: Rates, peer: Rates, aim: float | None = None, **rest: Any) -> Row:
    """The row of ours against a peer, whose ratio of medians should reach `aim`."""
    found = ours.middle / peer.middle
    return Row(
        ours=ours.middle,
        peer=peer.middle,
        ratio=found,
        spread=ratio(ours, peer).spread,
        aim=f"{aim:g}x" if aim else "",
        reached=found >= aim if aim else None,
        raw={"ours": ours.rounds, "peer": peer.rounds},
        **rest,
    )


def share(ours: Rates, limit: Rates, work: float, aim: float, **rest: Any) -> Row:
    """The row of what we reach of a limit; `work` is what an item takes, in the limit's unit."""
    reached = Rates(tuple(rate * work for rate in ours.rounds))
    part = reached.middle / limit.middle
    return Row(
        ours=reached.middle,
        peer=limit.middle,
        spread=ratio(reached, limit).spread,
        limit_share=part,
        aim=f"{aim:.2f} of the limit",
        reached=part >= aim,
        raw={"ours": ours.rounds, "limit": limit.rounds, "work": work},
        **rest,
    )
