"""What in a run's statistics a person should look at: each alarm is a name and one sentence.

Few rows prove little, so that most alarms need a thousand captions.
"""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

MIN_ROWS = 1000
LEAST_EFFECT = 0.2
"""Standard deviations by which own pictures must fit better: less is a small effect (Cohen)."""
MOST_FREQUENT = 0.005
"""Share of one caption; LVD-2M shipped one 4,000 times after a fault."""
ROBUST_Z = 5.0

Stats = Mapping[str, Any]


def alarms(stats: Stats, previous: Stats | None = None) -> list[dict[str, str]]:
    """Alarms of a run, also against the one before it where there is one."""
    found = [*_alignment(stats), *_frequent(stats), *_error_shares(stats["shards"])]
    if previous and min(stats["captioned"], previous["captioned"]) >= MIN_ROWS:
        found += _changes(stats, previous)
    return [{"alarm": name, "says": says} for name, says in found]


def ignores_pictures(rows: int, margin: float | None, effect: float | None) -> str:
    """A sentence where captions fit other pictures nearly as well as their own; empty if not."""
    if rows < MIN_ROWS or margin is None or effect is None or effect >= LEAST_EFFECT:
        return ""
    return (
        f"captions fit their own pictures no better than others (margin {margin:.4f}, "
        f"{effect:.2f} standard deviations): they ignore the pictures or stand in wrong rows"
    )


def _alignment(stats: Stats) -> Iterator[tuple[str, str]]:
    if says := ignores_pictures(stats["captioned"], stats["margin"], stats["margin_effect"]):
        yield "alignment", says
        return
    for name, shard in stats["shards"].items():
        rows = shard["rows"] - sum(shard["failures"].values())
        if says := ignores_pictures(rows, shard["margin"], shard["margin_effect"]):
            yield "alignment", f"shard {name}: {says}"


def _frequent(stats: Stats) -> Iterator[tuple[str, str]]:
    top = stats["top_caption"]
    if stats["captioned"] >= MIN_ROWS and top["share"] > MOST_FREQUENT:
        yield (
            "top_caption",
            f"{top['rows']} of {stats['captioned']} captions are {top['caption']!r:.120}",
        )


def _error_shares(shards: Mapping[str, Stats]) -> Iterator[tuple[str, str]]:
    """Shards whose share of failures stands out from the others'.

    The robust z of Iglewicz and Hoaglin: distance from the median over 1.4826 times the median
    distance, which is no less here than what chance alone does to a shard of that size.
    """
    shares = {n: _failed(shard) / shard["rows"] for n, shard in shards.items() if shard["rows"]}
    if len(shares) < 5:
        return
    middle = median(shares.values())
    spread = 1.4826 * median(abs(share - middle) for share in shares.values())
    for name, share in shares.items():
        rows = shards[name]["rows"]
        z = (share - middle) / max(spread, (middle / rows) ** 0.5, 1 / rows)
        if z > ROBUST_Z:
            says = (
                f"shard {name}: {_failed(shards[name])} of {rows} pictures failed, against "
                f"{middle:.1%} in the median shard (robust z {z:.0f})"
            )
            yield "error_share", says


def _failed(shard: Stats) -> int:
    return sum(shard["failures"].values())


def _changes(stats: Stats, previous: Stats) -> Iterator[tuple[str, str]]:
    """What got much worse since the run before; scores only where the same scorer gave them."""
    now, then = _figures(stats), _figures(previous)
    scored = ("margin", "mean clip_sim")
    same = stats["scorer"] and stats["scorer"] == previous["scorer"]
    for name in (*(scored if same else ()), "distinct_2", "vocabulary", "words_mean"):
        least = 0.9 if name == "mean clip_sim" else 0.5
        if now[name] < least * then[name]:
            yield "change", _changed(name, now, then, previous)
    for name in _HARMFUL:
        if now[name] > 2 * then[name] + 0.01:
            yield "change", _changed(name, now, then, previous)


_HARMFUL = (
    *("repeated_3gram_share", "long_repeat_share", "opening_share"),
    *("unstopped_share", "failed_share"),
)


def _figures(stats: Stats) -> dict[str, float]:
    """The figures that are compared; what is not known counts as 0, which nothing falls below."""
    found = {
        **{k: v for k, v in stats["texts"].items() if not isinstance(v, str)},
        "margin": stats["margin"],
        "mean clip_sim": stats["means"]["clip_sim"],
        "unstopped_share": stats["unstopped_share"],
        "failed_share": stats["failed"] / stats["rows"],
    }
    return {name: value or 0.0 for name, value in found.items()}


def _changed(
    name: str, now: Mapping[str, float], then: Mapping[str, float], previous: Stats
) -> str:
    return f"{name} is {now[name]:.4g}, it was {then[name]:.4g} in run {previous['run']!r}"
