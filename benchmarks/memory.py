"""Peak memory at ten times the rows: captions of stored embeddings with `nano`."""

from pathlib import Path

from benchmarks.collections_made import stored_embeddings
from benchmarks.commands import Watched, nightcap
from benchmarks.results import Row
from benchmarks.settings import Settings


def rows(settings: Settings) -> list[Row]:
    """One row: the large run against the small one."""
    few = settings.items(20_000, 50)
    with settings.scratch() as scratch:
        small, large = (_run(Path(scratch) / f"{count}", count) for count in (few, 10 * few))
    ratio = large.peak_mib / small.peak_mib
    return [
        Row(
            benchmark="memory",
            name=f"peak memory at {10 * few:,} rows against {few:,}",
            ours=large.peak_mib,
            peer=small.peak_mib,
            unit="MiB",
            ratio=ratio,
            peak_mib=large.peak_mib,
            aim="<= 1.1x",
            reached=ratio <= 1.1,
            note=f"caption of stored embeddings with nano, {large.seconds:.0f} s and "
            f"{small.seconds:.0f} s; all processes, shared pages once; the peer is the small run",
        )
    ]


def _run(place: Path, count: int) -> Watched:
    stored = stored_embeddings(place / "stored", count, per_file=10_000)
    return nightcap("caption", place / "root", "--model", "nano", "--embeddings", stored)
