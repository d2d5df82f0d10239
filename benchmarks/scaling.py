"""Peak memory and rates of `nightcap run` on a small and a large collection of drawn pictures.

Memory is that of the command with all processes it starts, the Prefect server among them, summed
ten times a second as proportional set size, so that shared pages count once.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tasks.units.draw import Drawing, draw_collection

COMMAND = [sys.executable, "-c", "from flows.cli import main; main()", "run"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One run."""

    pictures: int
    seconds: float
    peak_mib: float
    facts: dict[str, Any]


def measure(pictures: int, home: Path, model: str) -> Measured:
    """Draw so many pictures (untimed), then run on them in a process of its own."""
    place = home / f"pictures-{pictures}"
    draw_collection(str(place), Drawing(seen=pictures, unseen=0))
    words = [str(place), str(home / f"root-{pictures}"), "--model", model, "--json"]
    words += ["--samples-per-shard", "1000"]
    began = time.perf_counter()
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, tree_memory(process.pid))
        time.sleep(0.1)
    output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"the run of {pictures} pictures failed")
    facts = json.loads(output.splitlines()[-1])
    return Measured(pictures, time.perf_counter() - began, peak / 2**20, facts)


def tree_memory(pid: int) -> int:
    """Bytes that a process and its descendants hold."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.Error:
        return 0
    return total


def main() -> None:
    """Measure both sizes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=5_000)
    parser.add_argument("--large", type=int, default=20_000)
    parser.add_argument("--model", default="nano")
    choices = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(n, Path(folder), choices.model) for n in (choices.small, choices.large)]
    print("| pictures | seconds | peak MiB | shard/s | embed/s | caption/s |")
    print("|---|---|---|---|---|---|")
    for one in found:
        rates = [f"{stage['items_per_second']:.0f}" for stage in one.facts["stages"]]
        print(f"| {one.pictures} | {one.seconds:.1f} | {one.peak_mib:.0f} | {' | '.join(rates)} |")
    print(f"peak memory grows by {found[1].peak_mib / found[0].peak_mib - 1:+.1%}")
    slowest = max(found[1].facts["stages"], key=lambda stage: stage["seconds"])
    print(f"the bottleneck is {slowest['name']}")


if __name__ == "__main__":
    main()
