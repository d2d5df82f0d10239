"""The loop that writes captions, one token after another, whatever the strategy.

A caption that ends leaves its slot to one that waits, so that the machine always computes a full
batch. Which captions are computed together depends on their lengths alone, never on time.
Shapes:  G slots   K beams of a slot   N = G * K rows   P prefix tokens   D token embedding
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from captioner.decoding import Generated
from captioner.engine.prefixes import Line, Prefixes
from captioner.engine.slots import Next, Slots, portion_of


class TokenModel(Protocol):
    """What decoding needs of a language model behind an opening."""

    def slots(self, count: int, beams: int) -> Slots:
        """Empty slots for `count` captions of `beams` beams each."""

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of generated tokens."""

    def check_room(self, tokens: int) -> None:
        """Raise ModelError unless prefix and caption of so many tokens in all have positions."""


class Writer(Protocol):
    """A strategy at work: which tokens are written in each slot, and when a caption is done."""

    beams: int
    """Rows of a slot (K)."""

    def open(self, slots: int) -> None:
        """Make room for captions in so many slots."""

    def begin(self, slots: Sequence[int], numbers: Sequence[int], first: Next) -> None:
        """Begin the captions of these numbers in these slots, `first` having a row for each."""

    def tokens(self) -> Tensor:
        """The last token of every row, token_GK."""

    def add(self, after: Next) -> Tensor | None:
        """Write one more token on each row; source_GK where beams go on from others."""

    def done(self) -> list[bool]:
        """Of every slot whether its caption is done."""

    def take(self, slots: Sequence[int]) -> list[list[Generated]]:
        """The captions of slots that are done, best first: at least one of each.

        The log-probability of the best is not finite where the model failed.
        """

    def keep(self, slots: Sequence[int]) -> None:
        """Leave all slots but these, which are numbered anew in this order."""


@torch.inference_mode()
def write(
    language: TokenModel, prefixes: Prefixes, writer: Writer, copies: int = 1
) -> list[list[Generated]]:
    """What `writer` writes after each prefix, `copies` times; in order."""
    line = Line(prefixes, copies)
    if not line.waiting:
        return []
    count = min(line.waiting, max(1, prefixes.at_once // writer.beams))
    writer.open(count)
    desk = _Desk(language.slots(count, writer.beams), writer, count)
    found: list[list[Generated]] = [[]] * line.waiting
    left = [copies] * prefixes.count
    while True:
        for number, captions in desk.leave():
            found[number] = captions
            left[number // copies] -= 1
            if not left[number // copies]:
                prefixes.progress(1)
        if desk.enter(line):
            continue  # a caption of one token is done already
        if not any(desk.alive):
            return found
        if not line.waiting:
            desk.close_ranks()
        desk.step()


class _Desk:
    """Slots, what is written in them, and whose captions these are."""

    def __init__(self, slots: Slots, writer: Writer, count: int) -> None:
        self._slots, self._writer = slots, writer
        self._numbers: list[int | None] = [None] * count
        self._portion = portion_of(count)

    @property
    def alive(self) -> list[bool]:
        """Of every slot whether a caption is being written in it."""
        return [number is not None for number in self._numbers]

    def leave(self) -> list[tuple[int, list[Generated]]]:
        """The captions that are done, with their numbers; their slots become free."""
        if not any(self.alive):
            return []
        ended = zip(self._numbers, self._writer.done(), strict=True)
        slots = [slot for slot, (number, done) in enumerate(ended) if done and number is not None]
        if not slots:
            return []
        captions = self._writer.take(slots)
        broken = [
            slot
            for slot, row in zip(slots, captions, strict=True)
            if not all(abs(one.logprob) < float("inf") for one in row)
        ]
        if broken:
            self._slots.wipe(broken)
        numbers = [number for slot in slots if (number := self._numbers[slot]) is not None]
        for slot in slots:
            self._numbers[slot] = None
        return list(zip(numbers, captions, strict=True))

    def enter(self, line: Line) -> bool:
        """Let captions enter if enough slots are free; whether any did."""
        free = [slot for slot, number in enumerate(self._numbers) if number is None]
        idle = len(free) == len(self._numbers)
        entering = len(free) if idle else len(free) // self._portion * self._portion
        count = min(line.waiting, entering)
        if not count or not (idle or self._slots.refills):
            return False
        prefix_RPD, rows, numbers = line.take(count)
        chosen = free[:count]
        if not self._slots.refills:  # their rows are those that enter now, and no others
            self._writer.keep(chosen)
            self._numbers = self._numbers[:count]
        self._writer.begin(chosen, numbers, self._slots.enter(prefix_RPD, rows, chosen))
        for slot, number in zip(chosen, numbers, strict=True):
            self._numbers[slot] = number
        return True

    def close_ranks(self) -> None:
        """Leave out empty slots once nobody waits and a quarter of them is empty."""
        slots = [slot for slot, number in enumerate(self._numbers) if number is not None]
        empty = [slot for slot, number in enumerate(self._numbers) if number is None]
        slots = sorted(slots + empty[: -len(slots) % self._portion])
        if 4 * len(slots) > 3 * len(self._numbers):
            return
        self._slots.keep(slots)
        self._writer.keep(slots)
        self._numbers = [self._numbers[slot] for slot in slots]

    def step(self) -> None:
        """Write one more token in every slot."""
        after = self._slots.step(self._writer.tokens(), self.alive)
        source_GK = self._writer.add(after)
        if source_GK is not None:
            self._slots.follow(source_GK)
