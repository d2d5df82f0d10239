"""F2: an S3 server that is busy, cuts off, loses replies and reports conflicts, all by chance.

A unit is tried again when the store was at fault, as its task would be, and nothing else is.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from proofs.small_run import draw, finish
from proofs.stores import contents, dangling, new_root, s3_server
from storage.errors import StoreUnavailable
from storage.urls import translated

TRIES = 40
"""A run that is not through by then does not finish."""


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Take `count` roots through every stage in a storm each, drawn by `seed`."""
    source = draw(scratch / "pictures", 11)
    with s3_server():
        finish(source, root := new_root("s3", scratch))
        expected = contents(root)
    tries: Counter[str] = Counter()
    found: dict[str, Any] = {"storms": count, "identical": 0, "litter": 0, "dangling_uploads": 0}
    for number in range(count):
        with s3_server(str(seed + number)):
            root = _patiently(lambda: new_root("s3", scratch), tries)
            _patiently(lambda root=root: finish(source, root), tries)
            there = _patiently(lambda root=root: contents(root), tries)
            found["identical"] += there == expected
            found["litter"] += len(set(there) - set(expected))
            found["dangling_uploads"] += _patiently(lambda root=root: dangling(root), tries)
    ok = found["identical"] == count and not found["litter"] and not found["dangling_uploads"]
    return {"proof": "F2", "ok": ok, **found, "tried_again": tries.total()}


def _patiently(work: Any, tries: "Counter[str]") -> Any:
    for _ in range(TRIES):
        try:
            with translated("s3://", "use"):  # what looks at the root from outside needs it
                return work()
        except StoreUnavailable as error:
            tries[type(error.__cause__).__name__] += 1
    raise TimeoutError(f"not through after {TRIES} tries")
