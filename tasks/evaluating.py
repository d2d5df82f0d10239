"""Judges a run's captions by references, alone or beside another run on the same pictures."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from captioner.encoders import Encoder
from captioner.errors import ModelError
from captioner.metrics import Interval, Measure, compare, intervals, overlap_measures, tokenize
from captioner.metrics.clip import clip_measures, nearest_references
from captioner.metrics.meteor import meteor, meteor_missing
from storage.captions import find_captions
from storage.errors import ConfigurationError
from storage.judged import Joined, Judged, join_references
from storage.layout import Root, open_root
from storage.settled import Settled
from tasks.scorers import scored_in, scorer_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """What captions are judged by."""

    run: str = ""
    """Empty where there is only one."""
    references: str = ""
    """A file of captions by id; empty takes what the pictures came with."""
    against: str = ""
    """Another run of the root to compare with."""
    rows: int = 50_000
    """Of more captions with references, so many are drawn by their names."""
    seed: int = 0
    """Another seed draws other resamples for the intervals."""
    encoder: str = ""
    """Folder of the scoring encoder, if it is a local one."""


def evaluate(url: str, options: EvaluateOptions) -> dict[str, Any]:
    """Every measure with its 95 % interval, and how ids went together with rows.

    With `against`, both runs are measured on the pictures that both captioned. Raises
    ConfigurationError if no reference matches a row.
    """
    root = open_root(url)
    run = find_captions(root, options.run)
    joined = join_references(url, run.name, options.references, options.rows)
    if not options.against:
        found = intervals(_measures(root, run, joined.rows, options), seed=options.seed)
        return _facts(url, run, joined) | {"metrics": _plain(found)}
    other = find_captions(root, options.against)
    theirs = join_references(url, other.name, options.references, options.rows)
    mine, known = _common(joined, theirs, (run.name, other.name))
    ours = _measures(root, run, mine, options)
    beside = _measures(root, other, known, options)
    facts = _facts(url, run, joined) | {"metrics": _plain(intervals(ours, seed=options.seed))}
    facts["against"] = {
        "run": other.name,
        "rows": len(mine),
        "metrics": _plain(intervals(beside, seed=options.seed)),
        "difference": _plain(compare(ours, _comparable(beside, run, other), seed=options.seed)),
    }
    return facts


def _facts(url: str, run: Settled, joined: Joined) -> dict[str, Any]:
    facts = {"command": "evaluate", "ok": True, "root": url, "run": run.name}
    return facts | {"scorer": run.resolved["scorer"]} | joined.counts


def _common(
    one: Joined, other: Joined, names: tuple[str, str]
) -> tuple[list[Judged], list[Judged]]:
    ours, theirs = ({row.name: row for row in joined.rows} for joined in (one, other))
    both = [name for name in ours if name in theirs]
    if not both:
        raise ConfigurationError(
            f"runs {names[0]!r} and {names[1]!r} have captioned no picture with references that "
            "both share"
        )
    return [ours[name] for name in both], [theirs[name] for name in both]


def _measures(
    root: Root, run: Settled, rows: list[Judged], options: EvaluateOptions
) -> dict[str, Measure]:
    captions = [tokenize(row.caption) for row in rows]
    references = [[tokenize(text) for text in row.references] for row in rows]
    measures = overlap_measures(captions, references)
    if missing := meteor_missing():
        _log.info("%s", missing)
    else:
        measures["METEOR"] = meteor(captions, references)
    return measures | _clip(root, run, rows, options)


def _clip(
    root: Root, run: Settled, rows: list[Judged], options: EvaluateOptions
) -> dict[str, Measure]:
    """CLIPScore from the run's own scores; RefCLIPScore if the scorer is at hand."""
    cosines = [row.clip_sim for row in rows if row.clip_sim is not None]
    if len(cosines) < len(rows):
        _log.warning("no CLIPScore: %d captions have no score", len(rows) - len(cosines))
        return {}
    encoder = _encoder(root, run, options)
    if encoder is None:
        return clip_measures(cosines, [])
    texts = [row.caption for row in rows]
    near = nearest_references(encoder, texts, [row.references for row in rows])
    return clip_measures(cosines, near)


def _encoder(root: Root, run: Settled, options: EvaluateOptions) -> Encoder | None:
    try:
        return scorer_of(run, scored_in(root, run), options.encoder)
    except (ModelError, ConfigurationError) as error:
        _log.warning("no RefCLIPScore: %s", error)
        return None


def _comparable(
    measures: Mapping[str, Measure], run: Settled, other: Settled
) -> dict[str, Measure]:
    """Scores of different scorers cannot be compared; words can."""
    if run.resolved["scorer"] == other.resolved["scorer"]:
        return dict(measures)
    _log.warning("scores of %r and %r are by different encoders", run.name, other.name)
    return {name: one for name, one in measures.items() if "CLIP" not in name}


def _plain(found: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    return {
        name: {key: round(value, 6) for key, value in asdict(one).items()}
        for name, one in found.items()
    }
