"""I2: mutated files of nine formats, decoded in processes that may take 1 GiB and 10 s for each.

A decoder that asks for more comes to `out_of_memory`, because the process may not grow: each such
answer is one that the proof must not see.
"""

import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from captioner.errors import PictureError
from captioner.pictures import decode
from proofs.forks import Fork

TESTS = str(Path(__file__).parents[1] / "tests")
LIMIT = 1 << 30
PART = 500
"""Files of one process: after a death, so many stand to question."""


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """`count` files, drawn by `seed`."""
    sys.path.insert(0, TESTS)
    from test_picture_damage import damaged, healthy

    kinds = list(healthy().values())
    told = scratch / "slowest"
    deaths, starved, slowest, largest = [], 0, 0.0, 0
    for first in range(0, count, PART):

        def work(first: int = first) -> None:
            held = psutil.Process(os.getpid()).memory_info()
            resource.setrlimit(resource.RLIMIT_AS, (held.vms + LIMIT, held.vms + LIMIT))
            worst, lacked = 0.0, 0
            for number in range(first, min(first + PART, count)):
                data = damaged(kinds[number % len(kinds)], random.Random(f"{seed}:{number}"))
                began = time.perf_counter()
                try:
                    decode(data)
                except PictureError as error:
                    lacked += error.code == "out_of_memory"
                worst = max(worst, time.perf_counter() - began)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - held.rss
            told.write_text(f"{worst} {max(0, peak)} {lacked}")

        ending = Fork(work).wait()
        if ending.signal or ending.error:
            deaths.append(f"{first}: {ending.signal} {ending.error}")
            continue
        worst, peak, lacked = told.read_text().split()
        slowest, largest = max(slowest, float(worst)), max(largest, int(peak))
        starved += int(lacked)
    ok = not deaths and not starved and slowest < 10 and largest < LIMIT
    return {"proof": "I2", "ok": ok, "files": count, "deaths_or_other_errors": deaths} | {
        "out_of_memory": starved,
        "slowest_seconds": round(slowest, 3),
        "most_mib": largest >> 20,
    }
