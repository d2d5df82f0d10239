"""The seam between writing captions and computing them: slots that captions enter and leave.

Shapes:  G slots   K beams of a slot   N = G * K rows   R prefixes   P prefix tokens
         D token embedding   V vocabulary   M likeliest tokens
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

_PORTIONS = 16


def portion_of(slots: int) -> int:
    """By how many slots captions enter and slots are left out.

    Fewer rows at once would compute slowly, and oneDNN keeps what it made for every number of
    rows it met: let them be few.
    """
    return max(1, slots // _PORTIONS)


class Next(Protocol):
    """What may follow each of some rows: the distribution of the next token, made as asked."""

    def best(self) -> tuple[Tensor, Tensor]:
        """The likeliest token_N and its log-probability; of equally likely ones the lowest id."""

    def top(self, count: int) -> tuple[Tensor, Tensor]:
        """The `count` likeliest token_NM and their log-probabilities, likeliest first."""

    def logits(self) -> Tensor:
        """All logits_NV in float32."""


class Slots(Protocol):
    """Captions being written side by side, each in a slot of its own until it is done."""

    refills: bool
    """Whether a caption may enter while others are being written; if not, there are no more slots
    than captions that entered together."""

    def enter(self, prefix_RPD: Tensor, rows: Sequence[int], slots: Sequence[int]) -> Next:
        """Begin a caption in each of `slots`, after the prefix at the same place of `rows`.

        A prefix that several slots share is read once. The answer has a row for each of `slots`,
        whose K beams begin alike.
        """

    def step(self, token_GK: Tensor, alive: Sequence[bool]) -> Next:
        """Read the token that each row wrote last; what may follow, for all N rows.

        What is said of slots that are not alive means nothing.
        """

    def follow(self, source_GK: Tensor) -> None:
        """Let beam k of every slot go on from what its beam `source` has read."""

    def keep(self, slots: Sequence[int]) -> None:
        """Leave all slots but these, which are numbered anew in this order."""

    def wipe(self, slots: Sequence[int]) -> None:
        """Take what is not finite out of slots, so that it cannot reach who enters next."""
