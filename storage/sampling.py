"""A sample of rows that depends on the rows alone, whatever their order or their shards."""

import hashlib
import heapq
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


def mark_of(*words: str) -> int:
    """A number from 0 to 2**64 - 1 by which rows are drawn: a hash of what names one."""
    text = "\n".join(words).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


@dataclass(slots=True)
class Smallest(Generic[T]):
    """The `size` things of the smallest marks, of however many are offered."""

    size: int
    _heap: list[tuple[int, int, T]] = field(default_factory=list)
    offered: int = 0

    def add(self, mark: int, thing: T) -> None:
        """Offer a thing; among equal marks the earlier stays."""
        self.offered += 1
        entry = (-mark, -self.offered, thing)
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, entry)
        elif entry[:2] > self._heap[0][:2]:
            heapq.heapreplace(self._heap, entry)

    def things(self) -> list[T]:
        """What was kept, by mark."""
        return [thing for _, _, thing in sorted(self._heap, key=lambda one: one[:2], reverse=True)]
