"""K3: a lane is killed in the middle of a run with two; the run ends by itself, nothing is lost."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import psutil

from proofs.commands import start
from proofs.small_run import draw
from proofs.stores import contents, sweep

WORDS = ("--model", "size", "--samples-per-shard", "10", "--threads", "1", "--lanes", "2")
HANG = 60
"""Seconds that a kill may cost, beyond what the same run takes without one."""


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Make `count` runs, each with one lane killed at a moment drawn by `seed`."""
    source = draw(scratch / "pictures", 79)
    undisturbed = _run(source, scratch / "whole", scratch, None)
    expected = contents(str(scratch / "whole"))
    moments = random.Random(seed)
    found: dict[str, Any] = {"runs": count, "killed": 0, "finished": 0, "identical": 0}
    found["left_litter"] = 0
    longest, differ = 0.0, []
    for number in range(count):
        root = scratch / f"root-{number}"
        ended = _run(source, root, scratch, moments.randrange(1, len(expected) * 2 // 3))
        found["killed"] += ended["killed"]
        found["finished"] += ended["code"] == 0
        found["left_litter"] += sweep(str(root)) > 0
        there = contents(str(root))
        found["identical"] += there == expected
        differ += [name for name in there | expected if there.get(name) != expected.get(name)]
        longest = max(longest, ended["seconds"] - undisturbed["seconds"])
    found["longest_delay_seconds"] = round(longest, 1)
    ok = found["killed"] == found["finished"] == found["identical"] == count and longest < HANG
    return {"proof": "K3", "ok": ok and undisturbed["code"] == 0, **found, "differ": differ}


def _run(source: Path, root: Path, scratch: Path, files: int | None) -> dict[str, Any]:
    """Run, and kill a lane as soon as `root` holds so many files."""
    began, killed = time.perf_counter(), False
    process = start(scratch / "prefect", "run", str(source), str(root), *WORDS, "--json")
    while files is not None and not killed and process.poll() is None:
        if sum(path.is_file() for path in root.rglob("*")) >= files:
            killed = _kill_a_lane(process.pid)
        time.sleep(0.005)
    process.communicate(timeout=900)
    seconds = time.perf_counter() - began
    return {"code": process.returncode, "seconds": seconds, "killed": killed}


def _kill_a_lane(parent: int) -> bool:
    try:
        children = psutil.Process(parent).children()
        lanes = [one.pid for one in children if "--multiprocessing-fork" in one.cmdline()]
        if lanes:
            os.kill(lanes[0], signal.SIGKILL)
        return bool(lanes)
    except (psutil.Error, ProcessLookupError):
        return False
