"""D1: a disk that is full: one sentence that names the place and the bytes, then a clean resume.

Every other try limits all files of the process, which half-made output meets first; in the others
the disk below the root takes so many bytes and not one more.
"""

import errno
import random
import resource
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from proofs.forks import Ending, Fork
from proofs.small_run import draw, finish
from proofs.steps import local_steps
from proofs.stores import contents, litter, new_root, sweep

SIZE = 30


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Run with `count` limits between nothing and what an undisturbed run needs."""
    source = draw(scratch / "pictures", 60)
    finish(source, whole := new_root("local", scratch), SIZE)
    expected = contents(whole)
    sizes = [len(data) for data in expected.values()]
    draws = random.Random(seed)
    found = dict.fromkeys(("tried", "clear", "identical", "left_litter"), 0)
    not_clear = []
    for number in range(count):
        root = new_root("local", scratch)
        if number % 2:
            limit = draws.randrange(1, max(sizes))
            ending = Fork(_limited(source, root, limit)).wait()
        else:
            limit = draws.randrange(1, sum(sizes))
            ending = Fork(_filled(source, root, limit)).wait()
        found["tried"] += 1
        found["clear"] += _is_clear(ending)
        not_clear += [] if _is_clear(ending) else [f"{limit}: {ending.error}"]
        finish(source, root, SIZE)
        found["left_litter"] += sweep(root) > 0
        found["identical"] += contents(root) == expected and not litter(root, expected)
    ok = found["tried"] == found["clear"] == found["identical"]
    return {"proof": "D1", "ok": ok, **found, "not_clear": not_clear}


def _is_clear(ending: Ending) -> bool:
    return all(words in ending.error for words in ("no space left", "'/", " bytes"))


def _limited(source: Path, root: str, limit: int) -> Callable[[], None]:
    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        finish(source, root, SIZE)

    return work


def _filled(source: Path, root: str, room: int) -> Callable[[], None]:
    def act(operation: str, moment: str) -> None:
        if (operation, moment) == ("write", "short"):
            used = sum(path.stat().st_size for path in Path(root).rglob("*") if path.is_file())
            if used > room:
                raise OSError(errno.ENOSPC, "No space left on device")

    def work() -> None:
        steps: AbstractContextManager[None] = local_steps(Path(root), act)
        with steps:
            finish(source, root, SIZE)

    return work
