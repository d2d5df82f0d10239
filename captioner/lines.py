"""Greedy and drawn captions: one row a slot, each token chosen from what may follow it.

Shapes:  G slots   N = G rows   S slots in question   T tokens   V vocabulary
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from captioner.choosing import Constraints, draw
from captioner.decoding import Generated, Greedy, Sample
from captioner.engine.prefixes import Prefixes
from captioner.engine.slots import Next
from captioner.generation import TokenModel, write


def greedy(language: TokenModel, prefixes: Prefixes, settings: Greedy) -> list[list[Generated]]:
    """The likeliest token after token; among equally likely ones the lowest id wins."""
    language.check_room(prefixes.length + settings.max_tokens)
    lines = Lines(language, settings, prefixes.device)
    return write(language, prefixes, lines)


def sample(
    language: TokenModel, prefixes: Prefixes, settings: Sample, ids: Sequence[str]
) -> list[list[Generated]]:
    """`settings.n` captions a prefix, drawn with numbers that depend on id and sample alone."""
    language.check_room(prefixes.length + settings.max_tokens)
    lines = DrawnLines(language, settings, prefixes.device, ids)
    found = write(language, prefixes, lines, settings.n)
    rows = range(0, len(found), settings.n)
    return [[one for row in found[at : at + settings.n] for one in row] for at in rows]


def sample_seed(seed: int, id_: str, number: int) -> int:
    """What sample `number` of the image `id_` is drawn from: 63 bits, the same on any machine."""
    mark = hashlib.blake2b(f"{seed}\n{number}\n{id_}".encode(), digest_size=8).digest()
    return int.from_bytes(mark, "big") >> 1


class Lines:
    """What has been written in each slot: tokens, log-probabilities, and where it ended."""

    beams = 1

    def __init__(
        self, language: TokenModel, settings: Greedy | Sample, device: torch.device
    ) -> None:
        self.settings = settings
        self._text: Callable[[Sequence[int]], str] = language.text
        self._device = device
        self._constraints = Constraints(settings)
        self._stops = torch.tensor(settings.stop_ids, dtype=torch.long, device=device)

    def open(self, slots: int) -> None:
        """Make room for captions in so many slots."""
        most, device = self.settings.max_tokens, self._device
        self._tokens_GT = torch.zeros(slots, most, dtype=torch.long, device=device)
        self._written_G = torch.zeros(slots, dtype=torch.long, device=device)
        self._running_G = torch.zeros(slots, dtype=torch.bool, device=device)
        self._stopped_G = torch.zeros(slots, dtype=torch.bool, device=device)
        self._logprob_G = torch.zeros(slots, dtype=torch.float64, device=device)

    def begin(self, slots: Sequence[int], numbers: Sequence[int], first: Next) -> None:
        """Begin the captions of these numbers in these slots, `first` having a row for each."""
        del numbers
        slot_S = torch.tensor(slots, device=self._device)
        self._tokens_GT[slot_S] = 0
        self._written_G[slot_S] = 0
        self._running_G[slot_S] = True
        self._stopped_G[slot_S] = False
        self._logprob_G[slot_S] = 0.0
        self._say(slot_S, first)

    def tokens(self) -> Tensor:
        """The last token of every row, token_GK."""
        last_G1 = (self._written_G - 1).clamp_min(0)[:, None]
        return self._tokens_GT.gather(1, last_G1)

    def add(self, after: Next) -> None:
        """Write one more token on each row that has not ended."""
        self._say(None, after)

    def done(self) -> list[bool]:
        """Of every slot whether its caption is done.

        A GPU is waited for here at every token, as it is wherever a list goes to it, here and in
        `engine` (`torch.tensor(slots, device=...)`): asking less often would save no wait.
        """
        return (~self._running_G).tolist()

    def take(self, slots: Sequence[int]) -> list[list[Generated]]:
        """The captions of slots that are done."""
        slot_S = torch.tensor(slots, device=self._device)
        columns = zip(
            self._tokens_GT[slot_S].tolist(),
            self._written_G[slot_S].tolist(),
            self._logprob_G[slot_S].tolist(),
            self._stopped_G[slot_S].tolist(),
            strict=True,
        )
        return [
            [Generated(tuple(row[: n - stopped]), logprob, row[n - 1] if stopped else None)]
            for row, n, logprob, stopped in columns
        ]

    def keep(self, slots: Sequence[int]) -> None:
        """Leave all slots but these, which are numbered anew in this order."""
        slot_S = torch.tensor(slots, device=self._device)
        self._tokens_GT = self._tokens_GT[slot_S]
        self._written_G = self._written_G[slot_S]
        self._running_G = self._running_G[slot_S]
        self._stopped_G = self._stopped_G[slot_S]
        self._logprob_G = self._logprob_G[slot_S]

    def _say(self, slot_S: Tensor | None, after: Next) -> None:
        """Write a token in some slots, or in all."""
        if slot_S is None:
            slot_S = torch.arange(len(self._written_G), device=self._device)
        said_ST, written_S = self._tokens_GT[slot_S], self._written_G[slot_S]
        token_S, logprob_S = self._choose(after, slot_S, said_ST, written_S)
        running_S = self._running_G[slot_S]
        place_S = written_S.clamp_max(self.settings.max_tokens - 1)
        kept_S = said_ST.gather(1, place_S[:, None])[:, 0]
        self._tokens_GT[slot_S, place_S] = torch.where(running_S, token_S, kept_S)
        written_S = written_S + running_S
        self._written_G[slot_S] = written_S
        self._logprob_G[slot_S] += torch.where(running_S, logprob_S.double(), 0.0)
        stopped_S = running_S & torch.isin(token_S, self._stops)
        self._stopped_G[slot_S] |= stopped_S
        running_S = running_S & ~stopped_S & (written_S < self.settings.max_tokens)
        self._running_G[slot_S] = running_S
        if self.settings.stop_strings:
            self._end_at_strings()

    def _choose(
        self, after: Next, slot_S: Tensor, said_ST: Tensor, written_S: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next token_S and its log-probability under the unmodified distribution."""
        del slot_S
        if self._constraints.idle:
            return after.best()
        next_SV = after.logits()
        token_S = self._constraints.shape(next_SV, said_ST, written_S).argmax(dim=-1)
        return token_S, _logprob(next_SV, token_S)

    def _end_at_strings(self) -> None:
        running = self._running_G.tolist()
        rows = zip(self._tokens_GT.tolist(), self._written_G.tolist(), running, strict=True)
        for slot, (tokens, written, runs) in enumerate(rows):
            text = self._text(tokens[:written]) if runs else ""
            if any(mark in text for mark in self.settings.stop_strings):
                self._running_G[slot] = False


class DrawnLines(Lines):
    """Lines whose tokens are drawn, with numbers that depend on image and sample alone."""

    settings: Sample

    def __init__(
        self, language: TokenModel, settings: Sample, device: torch.device, ids: Sequence[str]
    ) -> None:
        super().__init__(language, settings, device)
        self._ids = ids

    def open(self, slots: int) -> None:
        """Make room for captions in so many slots."""
        super().open(slots)
        self._seeds = [0] * slots
        size = (slots, self.settings.max_tokens)
        self._chance_GT = torch.zeros(size, dtype=torch.float64, device=self._device)

    def begin(self, slots: Sequence[int], numbers: Sequence[int], first: Next) -> None:
        """Begin the captions of these numbers in these slots, `first` having a row for each."""
        most = self.settings.max_tokens
        chances = []
        for slot, number in zip(slots, numbers, strict=True):
            id_, copy = self._ids[number // self.settings.n], number % self.settings.n
            self._seeds[slot] = sample_seed(self.settings.seed, id_, copy)
            chances.append(np.random.default_rng(self._seeds[slot]).random(most))
        drawn_ST = torch.from_numpy(np.stack(chances)).to(self._device)
        self._chance_GT[torch.tensor(slots, device=self._device)] = drawn_ST
        super().begin(slots, numbers, first)

    def take(self, slots: Sequence[int]) -> list[list[Generated]]:
        """The captions of slots that are done."""
        return [
            [Generated(one.token_ids, one.logprob, one.stop_id, self._seeds[slot]) for one in row]
            for slot, row in zip(slots, super().take(slots), strict=True)
        ]

    def keep(self, slots: Sequence[int]) -> None:
        """Leave all slots but these, which are numbered anew in this order."""
        super().keep(slots)
        self._seeds = [self._seeds[slot] for slot in slots]
        self._chance_GT = self._chance_GT[torch.tensor(slots, device=self._device)]

    def _choose(
        self, after: Next, slot_S: Tensor, said_ST: Tensor, written_S: Tensor
    ) -> tuple[Tensor, Tensor]:
        next_SV = after.logits()
        shaped_SV = self._constraints.shape(next_SV, said_ST, written_S)
        place_S1 = written_S.clamp_max(self.settings.max_tokens - 1)[:, None]
        chance_S = self._chance_GT[slot_S].gather(1, place_S1)[:, 0]
        token_S = draw(shaped_SV, self.settings, chance_S)
        return token_S, _logprob(next_SV, token_S)


def _logprob(next_NV: Tensor, token_N: Tensor) -> Tensor:
    chosen_N = next_NV.gather(-1, token_N[:, None])[:, 0]
    return chosen_N - next_NV.logsumexp(dim=-1)
