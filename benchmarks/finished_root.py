"""A root where all is done: how soon `run` finds that out, and `status` tells of it."""

from pathlib import Path

from benchmarks.collections_made import tiny_pictures
from benchmarks.commands import nightcap
from benchmarks.results import Row
from benchmarks.settings import Settings


def rows(settings: Settings) -> list[Row]:
    """A row for each command; the best of the rounds, as disks' caches differ."""
    shards = settings.items(2000, 4)
    with settings.scratch() as scratch:
        pictures = tiny_pictures(Path(scratch) / "pictures", 2 * shards)
        words = (pictures, Path(scratch) / "root", "--model", "size", "--samples-per-shard", 2)
        made = nightcap("run", *words)
        again = [nightcap("run", *words) for _ in range(settings.rounds)]
        status = [nightcap("status", Path(scratch) / "root") for _ in range(settings.rounds)]
    found = []
    for command, runs, aim in (("run again", again, 10), ("status", status, 3)):
        seconds = sorted(run.seconds for run in runs)
        middle = seconds[len(seconds) // 2]
        found.append(
            Row(
                benchmark="finished-root",
                name=f"a finished root of {shards} shards: {command}",
                ours=middle,
                unit="s",
                spread=(seconds[0], seconds[-1]),
                peak_mib=max(run.peak_mib for run in runs),
                aim=f"< {aim} s",
                reached=middle < aim,
                note=f"made in {made.seconds:.0f} s" if command == "run again" else "",
                raw={"seconds": seconds},
            )
        )
    return found
