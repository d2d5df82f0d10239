"""Work on many items within a device's memory: what does not fit at once is done in halves."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


def within_memory(work: Callable[[int, int], Sequence[T]], count: int) -> list[T | None]:
    """What `work(start, stop)` gives for each of `count` items; None for one that fits not alone.

    A part that does not fit is halved, and so are those after it: what failed once is not tried
    again. Only the device's own `OutOfMemoryError` is met; all else is raised as it is.
    """
    found: list[T | None] = []
    size = count
    while len(found) < count:
        start = len(found)
        done = _attempt(work, start, min(start + size, count))
        if done is not None:
            found += done
        elif size > 1:
            size //= 2
        else:
            found.append(None)
    return found


def _attempt(work: Callable[[int, int], Sequence[T]], start: int, stop: int) -> Sequence[T] | None:
    """None if it did not fit; what the attempt held is let go before the next one."""
    try:
        return work(start, stop)
    except torch.OutOfMemoryError:
        pass
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
