"""The prefixes of many images: made some at a time, handed out as slots come free.

Shapes:  B images   R prefixes   P prefix tokens   D token embedding
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.captions import unheard

AT_ONCE = 256
"""Captions written side by side where nobody says: enough for a CPU's products to be fast."""


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What stands for each of `count` images before its caption."""

    make: Callable[[int, int], Tensor]
    """The prefixes from one image up to another: prefix_RPD."""
    count: int
    length: int
    """Positions of a prefix (P)."""
    device: torch.device
    """Where they are made."""
    at_once: int = AT_ONCE
    """Captions written side by side; another number may change the last bits."""
    progress: Callable[[int], None] = unheard
    """Told how many more images have their captions, as they get them."""

    @classmethod
    def of(cls, prefix_BPD: "Tensor | Prefixes") -> "Prefixes":
        """Prefixes that are at hand already."""
        if isinstance(prefix_BPD, Prefixes):
            return prefix_BPD
        count, length, _ = prefix_BPD.shape
        return cls(lambda first, end: prefix_BPD[first:end], count, length, prefix_BPD.device)


class Line:
    """The captions still to be begun, `copies` of each image, in order."""

    def __init__(self, prefixes: Prefixes, copies: int) -> None:
        self._prefixes, self._copies = prefixes, copies
        self._next = 0
        self._first = 0
        self._made: Tensor | None = None

    @property
    def waiting(self) -> int:
        """Captions that nobody has taken yet."""
        return self._prefixes.count * self._copies - self._next

    def take(self, count: int) -> tuple[Tensor, list[int], list[int]]:
        """The next captions: prefix_RPD, which of them each caption follows, and its number."""
        numbers = list(range(self._next, self._next + count))
        self._next += count
        images = [number // self._copies for number in numbers]
        rows = [image - images[0] for image in images]
        return self._between(images[0], images[-1] + 1), rows, numbers

    def _between(self, first: int, end: int) -> Tensor:
        """The prefixes of some images, made at least `at_once` at a time."""
        if self._made is None or end > self._first + len(self._made):
            kept = [] if self._made is None else [self._made[first - self._first :]]
            begin = first + (len(kept[0]) if kept else 0)
            more = min(self._prefixes.count, max(end, begin + self._prefixes.at_once))
            self._made = torch.cat([*kept, self._prefixes.make(begin, more)])
            self._first = first
        return self._made[first - self._first : end - self._first]
