"""F1: each operation of a disk fails at its n-th call; a run succeeds, or says so and resumes.

Never may a run end without a word and leave other bytes than an undisturbed one.
"""

import errno
import random
from itertools import product
from pathlib import Path
from typing import Any

from fsspec.implementations.memory import MemoryFileSystem

from proofs.small_run import draw, finish
from proofs.steps import Act, local_steps, memory_steps
from proofs.stores import contents, litter, new_root, sweep

CALLS = 30
LOCAL = (
    "open",
    "create",
    "write",
    "fsync",
    "link",
    "replace",
    "unlink",
    "mkdir",
    "scandir",
    "stat",
)
MEMORY = ("pipe_file", "cat_file", "ls", "info", "rm_file", "_open")
Case = tuple[str, str, str, int]


def cases() -> list[Case]:
    """(store, operation, moment, call) of everything that may fail."""
    found: list[Case] = []
    for kind, operations in (("local", LOCAL), ("memory", MEMORY)):
        found += product((kind,), operations, ("before", "after"), range(1, CALLS + 1))
    return [*found, *product(("local",), ("write",), ("short",), range(1, CALLS + 1))]


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Try `count` cases drawn by `seed`; 0 is all."""
    source = draw(scratch / "pictures", 5)
    chosen = cases()
    chosen = random.Random(seed).sample(chosen, min(count, len(chosen))) if count else chosen
    expected = {}
    for kind in ("local", "memory"):
        finish(source, root := new_root(kind, scratch))
        expected[kind] = contents(root)
    found = dict.fromkeys(("tried", "not_reached", "succeeded", "loud", "silent", "differ"), 0)
    wrong = []
    for case in chosen:
        outcome = _once(source, case, expected[case[0]], scratch)
        found["tried"] += 1
        found[outcome] += 1
        wrong += [case] if outcome in ("silent", "differ") else []
        MemoryFileSystem.store.clear()
    return {"proof": "F1", "ok": not wrong, **found, "wrong": wrong}


def _once(source: Path, case: Case, expected: dict[str, bytes], scratch: Path) -> str:
    kind, operation, moment, call = case
    root = new_root(kind, scratch)
    met = 0

    def fail(found: str, when: str) -> None:
        nonlocal met
        if (found, when) == (operation, moment):
            met += 1
            if met == call:
                raise OSError(errno.EIO, "Input/output error, on purpose")

    loud = False
    try:
        with _steps(kind, root, fail):
            finish(source, root)
    except Exception:  # noqa: BLE001 - whatever it says, it said something
        loud = True
    if not loud and met < call:
        return "not_reached"
    if not loud and _without_litter(root) != expected:
        return "silent"
    finish(source, root)
    sweep(root)
    same = contents(root) == expected and not litter(root, expected)
    return ("loud" if loud else "succeeded") if same else "differ"


def _without_litter(root: str) -> dict[str, bytes]:
    sweep(root)
    return contents(root)


def _steps(kind: str, root: str, act: Act) -> Any:
    return local_steps(Path(root), act) if kind == "local" else memory_steps(act)
