"""Peak memory and rates of `nightcap run` on a small and a large collection of drawn pictures."""

import argparse
import tempfile
from pathlib import Path

from benchmarks.commands import Watched, nightcap
from tasks.units.draw import Drawing, draw_collection


def measure(pictures: int, home: Path, model: str) -> Watched:
    """Draw so many pictures (untimed), then run on them in a process of its own."""
    place = home / f"pictures-{pictures}"
    draw_collection(str(place), Drawing(seen=pictures, unseen=0))
    root = home / f"root-{pictures}"
    return nightcap("run", place, root, "--model", model, "--samples-per-shard", 1000)


def main() -> None:
    """Measure both sizes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=5_000)
    parser.add_argument("--large", type=int, default=20_000)
    parser.add_argument("--model", default="nano")
    choices = parser.parse_args()
    sizes = (choices.small, choices.large)
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(size, Path(folder), choices.model) for size in sizes]
    print("| pictures | seconds | peak MiB | shard/s | embed/s | caption/s |")
    print("|---|---|---|---|---|---|")
    for size, one in zip(sizes, found, strict=True):
        rates = [f"{stage['items_per_second']:.0f}" for stage in one.facts["stages"]]
        print(f"| {size} | {one.seconds:.1f} | {one.peak_mib:.0f} | {' | '.join(rates)} |")
    print(f"peak memory grows by {found[1].peak_mib / found[0].peak_mib - 1:+.1%}")
    slowest = max(found[1].facts["stages"], key=lambda stage: stage["seconds"])
    print(f"the bottleneck is {slowest['name']}")


if __name__ == "__main__":
    main()
