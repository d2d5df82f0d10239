"""The loops that write one token after another: greedy and drawn, batched, with a cache.

Shapes:  B rows   P prefix tokens   D token embedding   T tokens so far   V vocabulary
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from captioner.choosing import Constraints, draw
from captioner.decoding import Decoding, Generated, Greedy, Sample


class TokenModel(Protocol):
    """What decoding needs of a language model; a state is whatever the model makes of it."""

    def open(self, prefix_BPD: Tensor) -> tuple[Tensor, Any]:
        """Read the prefixes: next_BV logits of the first token, and the state to go on from."""

    def step(self, token_B: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one more token a row: next_BV logits of the one after it, and the new state."""

    def select(self, state: Any, row_R: Tensor) -> Any:
        """The state of some rows, in the order of `row_R`, which may repeat or leave out."""

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of generated tokens."""

    def check_room(self, tokens: int) -> None:
        """Raise ModelError unless prefix and caption of so many tokens in all have positions."""


Choice = Callable[[Tensor, int], Tensor]
"""Of shaped logits next_BV and the number of the step to the next token_B."""


@torch.inference_mode()
def greedy(language: TokenModel, prefix_BPD: Tensor, settings: Greedy) -> list[Generated]:
    """The likeliest token after token; among equally likely ones the lowest id wins."""
    if not len(prefix_BPD):
        return []
    start = _start(language, prefix_BPD, settings)
    return _write(language, start, settings, lambda next_BV, _: next_BV.argmax(dim=-1))


@torch.inference_mode()
def sample(
    language: TokenModel, prefix_BPD: Tensor, settings: Sample, ids: Sequence[str]
) -> list[list[Generated]]:
    """`settings.n` captions a prefix, drawn with numbers that depend on id and sample alone."""
    if not len(prefix_BPD):
        return []
    copies = settings.n
    next_BV, state = _start(language, prefix_BPD, settings)
    row_R = torch.arange(len(prefix_BPD), device=prefix_BPD.device).repeat_interleave(copies)
    start = next_BV[row_R], language.select(state, row_R) if copies > 1 else state
    seeds = [sample_seed(settings.seed, id_, at) for id_ in ids for at in range(copies)]
    numbers = [np.random.default_rng(seed).random(settings.max_tokens) for seed in seeds]
    chance_RT = torch.from_numpy(np.stack(numbers)).to(prefix_BPD.device)
    written = _write(
        language, start, settings, lambda next_RV, at: draw(next_RV, settings, chance_RT[:, at])
    )
    seeded = [
        Generated(one.token_ids, one.logprob, one.stop_id, seed)
        for one, seed in zip(written, seeds, strict=True)
    ]
    return [seeded[at : at + copies] for at in range(0, len(seeded), copies)]


def sample_seed(seed: int, id_: str, number: int) -> int:
    """What sample `number` of the image `id_` is drawn from: 63 bits, the same on any machine."""
    mark = hashlib.blake2b(f"{seed}\n{number}\n{id_}".encode(), digest_size=8).digest()
    return int.from_bytes(mark, "big") >> 1


def _start(language: TokenModel, prefix_BPD: Tensor, settings: Decoding) -> tuple[Tensor, Any]:
    language.check_room(prefix_BPD.shape[1] + settings.max_tokens)
    return language.open(prefix_BPD)


def _write(
    language: TokenModel, start: tuple[Tensor, Any], settings: Greedy | Sample, choose: Choice
) -> list[Generated]:
    """Write until every row has met a stop or `max_tokens`.

    All prefixes have one length, so no row is padded and none sees another: a row's tokens do
    not depend on its neighbours.
    """
    next_BV, state = start
    page = Page(len(next_BV), settings, next_BV.device, language.text)
    constraints = Constraints(settings)
    while True:
        token_B = choose(constraints.shape(next_BV.float(), page.tokens()), page.step)
        page.add(token_B, next_BV)
        if page.finished():
            return page.cut()
        next_BV, state = language.step(token_B, state)


class Page:
    """What has been written on each row: tokens, log-probabilities, and where it ended."""

    def __init__(
        self,
        rows: int,
        settings: Greedy | Sample,
        device: torch.device,
        text: Callable[[Sequence[int]], str],
    ) -> None:
        self.settings = settings
        self.step = 0
        """Tokens written so far on the rows that still run."""
        self._text = text
        self._tokens_BT = torch.zeros(rows, settings.max_tokens, dtype=torch.long, device=device)
        self._stops = torch.tensor(settings.stop_ids, dtype=torch.long, device=device)
        self._running_B = torch.ones(rows, dtype=torch.bool, device=device)
        self._stopped_B = torch.zeros(rows, dtype=torch.bool, device=device)
        self._logprob_B = torch.zeros(rows, dtype=torch.float64, device=device)
        self._length_B = torch.zeros(rows, dtype=torch.long, device=device)
        self._look_every = 1 if device.type == "cpu" or settings.stop_strings else 8

    def tokens(self) -> Tensor:
        """The tokens so far, token_BT; after a row's end they are arbitrary."""
        return self._tokens_BT[:, : self.step]

    def add(self, token_B: Tensor, next_BV: Tensor) -> None:
        """Write a token on each row, chosen after the unmodified logits `next_BV`."""
        logit_B = next_BV.float().gather(-1, token_B[:, None])[:, 0]
        chosen_B = logit_B - next_BV.float().logsumexp(dim=-1)
        self._logprob_B += chosen_B.double() * self._running_B
        self._tokens_BT[:, self.step] = token_B
        self.step += 1
        stopped_B = self._running_B & torch.isin(token_B, self._stops)
        self._stopped_B |= stopped_B
        self._running_B &= ~stopped_B
        self._length_B += self._running_B
        if self.settings.stop_strings:
            self._end_at_strings()

    def finished(self) -> bool:
        """Whether no row runs on; a GPU is asked only now and then, for asking makes it wait."""
        if self.step == self.settings.max_tokens:
            return True
        return self.step % self._look_every == 0 and not bool(self._running_B.any())

    def cut(self) -> list[Generated]:
        """The rows, each up to its end."""
        columns = zip(
            self._tokens_BT.tolist(),
            self._length_B.tolist(),
            self._logprob_B.tolist(),
            self._stopped_B.tolist(),
            strict=True,
        )
        return [
            Generated(tuple(row[:n]), logprob, row[n] if stopped else None)
            for row, n, logprob, stopped in columns
        ]

    def _end_at_strings(self) -> None:
        rows = zip(self.tokens().tolist(), self._running_B.tolist(), strict=True)
        for row, (tokens, running) in enumerate(rows):
            if running and any(mark in self._text(tokens) for mark in self.settings.stop_strings):
                self._running_B[row] = False
