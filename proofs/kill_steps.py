"""K1: a writer is killed at every single step of the commit protocol, then another goes on.

Every stage's commits are met: plan, tar, index, settings, embeddings, captions, receipts, seals.
"""

import os
import random
import signal
from pathlib import Path
from typing import Any

from proofs.forks import Fork
from proofs.small_run import draw, finish
from proofs.steps import Act, local_steps, s3_steps
from proofs.stores import collect, contents, dangling, litter, new_root, s3_server

LOOKS = {"open", "scandir", "stat"}
"""Steps that change nothing: to die there is to die after the step before."""


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Kill at `count` steps on each kind of store, drawn by `seed`; 0 is at all of them."""
    source = draw(scratch / "pictures", 5)
    with s3_server():
        stores = {kind: _on(kind, source, scratch, (count, seed)) for kind in ("local", "s3")}
    ok = all(
        one["killed"] == one["tried"] == one["identical"] and not one["litter_after_gc"]
        for one in stores.values()
    )
    return {"proof": "K1", "ok": ok, **stores}


def _on(kind: str, source: Path, scratch: Path, drawn: tuple[int, int]) -> dict[str, Any]:
    whole = new_root(kind, scratch)
    total = _steps_of(kind, source, whole)
    expected = contents(whole)
    count, seed = drawn
    steps = range(total)
    chosen = sorted(random.Random(seed).sample(steps, min(count, total))) if count else steps
    found = {"steps": total, "tried": len(chosen), "killed": 0, "identical": 0}
    found |= {"left_litter": 0, "litter_after_gc": 0}
    for step in chosen:
        root = new_root(kind, scratch)
        found["killed"] += _run(kind, source, root, step) == signal.SIGKILL
        finish(source, root)
        found["left_litter"] += collect(root) > 0
        found["litter_after_gc"] += len(litter(root, expected)) + dangling(root)
        found["identical"] += contents(root) == expected
    return found


def _steps_of(kind: str, source: Path, root: str) -> int:
    seen: list[str] = []

    def note(operation: str, _: str) -> None:
        if operation not in LOOKS:
            seen.append(operation)

    with _steps(kind, root, note):
        finish(source, root)
    return len(seen)


def _run(kind: str, source: Path, root: str, last: int) -> int:
    taken = 0

    def kill(operation: str, _: str) -> None:
        nonlocal taken
        if operation in LOOKS:
            return
        if taken == last:
            os.kill(os.getpid(), signal.SIGKILL)
        taken += 1

    def work() -> None:
        with _steps(kind, root, kill):
            finish(source, root)

    return Fork(work).wait().signal


def _steps(kind: str, root: str, act: Act) -> Any:
    return local_steps(Path(root), act) if kind == "local" else s3_steps(act)
