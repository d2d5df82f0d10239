"""What a run costs beside its stages' own work: a shard's share, and what is paid once.

The model `size` has no weights, so that hardly anything but orchestration is left. A lane measures
the seconds of its units; the rest of a stage's time is orchestration. The same tiny pictures are
also run in one shard: what many shards take longer than that contains files opened and committed.
"""

from pathlib import Path

from benchmarks.collections_made import tiny_pictures
from benchmarks.commands import Watched, nightcap
from benchmarks.results import Row
from benchmarks.settings import Settings

EACH = 20
"""Pictures in a shard, when shards are many."""
STAGES = 3


def rows(settings: Settings) -> list[Row]:
    """A row for the share of a shard and stage, one with its files, one for what is paid once."""
    shards = settings.items(500, 4)
    with settings.scratch() as scratch:
        pictures = tiny_pictures(Path(scratch) / "pictures", shards * EACH)
        few = _run(pictures, Path(scratch) / "few", shards * EACH)
        many = _run(pictures, Path(scratch) / "many", EACH)
    share = (_in_stages(many) - _in_stages(many, "work_seconds")) / shards / STAGES
    more = (_in_stages(many) - _in_stages(few)) / (shards - 1) / STAGES
    once = few.seconds - _in_stages(few)
    about = f"{shards} shards of {EACH} pictures of 16x16 pixels, model size, {STAGES} stages"
    return [
        Row(
            benchmark="orchestration",
            name="run: a shard and stage, outside the stages' own work",
            ours=1000 * share,
            unit="ms",
            peak_mib=many.peak_mib,
            aim="<= 15 ms",
            reached=share <= 0.015,
            note=about,
            raw={"many": many.facts["stages"]},
        ),
        Row(
            benchmark="orchestration",
            name="run: a shard and stage more, its files opened, committed and recorded",
            ours=1000 * more,
            unit="ms",
            note=f"{many.seconds:.1f} s in all, against {few.seconds:.1f} s in a single shard",
            raw={"few": few.facts["stages"]},
        ),
        Row(
            benchmark="orchestration",
            name="run: once, outside all stages",
            ours=max(once, many.seconds - _in_stages(many)),
            unit="s",
            aim="<= 20 s",
            reached=max(once, many.seconds - _in_stages(many)) <= 20,
            note="start, listing, plan, server, summary; the longer of both runs",
        ),
    ]


def _run(pictures: Path, root: Path, each: int) -> Watched:
    return nightcap(
        "run", pictures, root, "--model", "size", "--lanes", 1, "--samples-per-shard", each
    )


def _in_stages(run: Watched, what: str = "seconds") -> float:
    return float(sum(stage[what] for stage in run.facts["stages"]))
