"""R1: eight processes do the same twenty shards at once; one receipt stands for each of them."""

from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from proofs.forks import Fork
from proofs.small_run import draw, finish
from proofs.stores import contents, litter, new_root, s3_server, sweep

RACERS = 8
SHARDS = 20
SLOWEST_START = 120
"""Seconds within which all racers stand at the start, or the round fails."""


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Run `count` rounds on each kind of store."""
    del seed  # the race itself is what is random
    source = draw(scratch / "pictures", 2 * SHARDS - 1)
    with s3_server():
        stores = {kind: _on(kind, source, scratch, count) for kind in ("local", "s3")}
    ok = all(one["identical"] == one["rounds"] and not one["failed"] for one in stores.values())
    return {"proof": "R1", "ok": ok, "racers": RACERS, "shards": SHARDS, **stores}


def _on(kind: str, source: Path, scratch: Path, rounds: int) -> dict[str, Any]:
    finish(source, whole := new_root(kind, scratch), size=2)
    expected = contents(whole)
    found: dict[str, Any] = {"rounds": rounds, "identical": 0, "litter": 0, "failed": []}
    for _ in range(rounds):
        root = new_root(kind, scratch)
        start = get_context("fork").Barrier(RACERS, timeout=SLOWEST_START)

        def work(root: str = root, start: Barrier = start) -> None:
            start.wait()
            finish(source, root, size=2)

        racers = [Fork(work) for _ in range(RACERS)]
        endings = [racer.wait() for racer in racers]
        found["failed"] += [ending.error for ending in endings if ending.signal or ending.error]
        found["litter"] += sweep(root) + len(litter(root, expected))
        found["identical"] += contents(root) == expected
    return found
