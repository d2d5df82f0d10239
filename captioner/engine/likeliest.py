"""The likeliest tokens and the sum of all chances, a part of the vocabulary at a time.

Shapes:  N rows   V vocabulary   C tokens of a part   M likeliest tokens
         Y tokens of a group   X groups, or tokens in question
"""

from collections.abc import Iterable
from types import ModuleType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from captioner.engine.compiled import bits, kernels_for

_GROUP = 32
"""Tokens of which one maximum is taken before the likeliest are looked for."""

Parts = Iterable[tuple[int, Tensor]]
"""Of each part of the vocabulary in turn the number of its first token, and logits_NC."""


def best(parts: Parts) -> tuple[Tensor, Tensor]:
    """The likeliest token_N and its log-probability; of equally likely ones the lowest id."""
    token_N1, logprob_N1 = top(parts, 1)
    return token_N1[:, 0], logprob_N1[:, 0]


def top(parts: Parts, count: int) -> tuple[Tensor, Tensor]:
    """The `count` likeliest token_NM and their log-probabilities, likeliest first."""
    token_NM, logit_NM, total_N = likeliest(parts, count)
    return token_NM, logit_NM - total_N[:, None]


def likeliest(parts: Parts, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` likeliest token_NM, likeliest first, their logits, and all logits' logsumexp.

    Logits and their sum are in float32. At least so many tokens there must be.
    """
    search: _Search | None = None
    for first, logits_NC in parts:
        search = search or _search(logits_NC, count)
        search.take(first, logits_NC)
    assert search is not None  # noqa: S101 - no vocabulary is empty
    return search.found()


class _Search(Protocol):
    """What was found in the parts so far."""

    def take(self, first: int, logits_NC: Tensor) -> None:
        """One more part."""

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """Token_NM, their logits, and the logsumexp."""


def _search(like_NC: Tensor, count: int) -> _Search:
    kernels = kernels_for(like_NC)
    if kernels is not None:
        return _CompiledSearch(kernels, like_NC, count)
    return _BestSearch() if count == 1 else _TorchSearch(count)


class _CompiledSearch:
    """By a kernel that reads each part once from the cache."""

    def __init__(self, kernels: ModuleType, like_NC: Tensor, count: int) -> None:
        rows = len(like_NC)
        self._kernels = kernels
        self._token_NM = torch.zeros(rows, count, dtype=torch.long)
        self._logit_NM = like_NC.new_full((rows, count), -torch.inf)
        self._most_N = np.full(rows, -np.inf, np.float32)
        self._sum_N = np.zeros(rows, np.float32)

    def take(self, first: int, logits_NC: Tensor) -> None:
        """One more part."""
        tokens, logits = bits(self._token_NM), bits(self._logit_NM)
        part = bits(logits_NC), first, tokens, logits
        self._kernels.likeliest(*part, self._most_N, self._sum_N)

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """Token_NM, their logits, and the logsumexp."""
        total_N = torch.from_numpy(self._most_N + np.log(self._sum_N))
        return self._token_NM, self._logit_NM.float(), total_N


class _BestSearch:
    """One token alone: a maximum costs less than a sorted list."""

    def __init__(self) -> None:
        self._total = _Sum()
        self._token_N: Tensor | None = None
        self._logit_N: Tensor | None = None

    def take(self, first: int, logits_NC: Tensor) -> None:
        """One more part."""
        most_N, place_N = logits_NC.max(dim=-1)
        self._total.add(logits_NC, most_N)
        if self._token_N is None or self._logit_N is None:
            self._token_N, self._logit_N = place_N + first, most_N
            return
        better_N = most_N > self._logit_N
        self._token_N = torch.where(better_N, place_N + first, self._token_N)
        self._logit_N = torch.where(better_N, most_N, self._logit_N)

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """Token_NM, their logits, and the logsumexp."""
        assert self._token_N is not None and self._logit_N is not None  # noqa: S101, PT018
        return self._token_N[:, None], self._logit_N.float()[:, None], self._total.log()


class _TorchSearch:
    """By torch's operators."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._total = _Sum()
        self._tokens: list[Tensor] = []
        self._logits: list[Tensor] = []

    def take(self, first: int, logits_NC: Tensor) -> None:
        """One more part."""
        best_NM, place_NM = _largest(logits_NC, self._count)
        self._total.add(logits_NC, best_NM[:, 0])
        self._tokens.append(place_NM + first)
        self._logits.append(best_NM.float())

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """Token_NM, their logits, and the logsumexp."""
        if len(self._tokens) == 1:
            return self._tokens[0], self._logits[0], self._total.log()
        best_NM, place_NM = torch.cat(self._logits, dim=-1).topk(self._count, dim=-1)
        return torch.cat(self._tokens, dim=-1).gather(1, place_NM), best_NM, self._total.log()


class _Sum:
    """The log of the sum of all exponentials, part by part, each read while it is in cache."""

    def __init__(self) -> None:
        self._most_N: Tensor | None = None
        self._sum_N: Tensor | None = None

    def add(self, logits_NC: Tensor, most_N: Tensor) -> None:
        """`most_N` is the largest logit of the part."""
        sum_N = (logits_NC - most_N[:, None]).exp_().sum(dim=-1, dtype=torch.float32)
        most_N = most_N.float()
        if self._most_N is None or self._sum_N is None:
            self._most_N, self._sum_N = most_N, sum_N
            return
        above_N = torch.maximum(self._most_N, most_N)
        self._sum_N = (
            self._sum_N * (self._most_N - above_N).exp() + sum_N * (most_N - above_N).exp()
        )
        self._most_N = above_N

    def log(self) -> Tensor:
        """logsumexp_N in float32."""
        assert self._most_N is not None and self._sum_N is not None  # noqa: S101, PT018
        return self._most_N + self._sum_N.log()


def _largest(logits_NC: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`topk`, but at the cost of one pass: it looks only into groups with a large maximum.

    The `count` largest lie in the `count` groups with the largest maxima. A group's tokens are
    far apart, because maxima down columns are found faster than along rows.
    """
    columns = logits_NC.shape[1] // _GROUP
    if logits_NC.device.type != "cpu" or columns <= count:
        return logits_NC.topk(min(count, logits_NC.shape[1]), dim=-1)
    even = columns * _GROUP
    group_NYX = logits_NC[:, :even].view(-1, _GROUP, columns)
    chosen_NM = group_NYX.amax(dim=1).topk(count, dim=-1, sorted=False).indices
    value_NYM = group_NYX.gather(2, chosen_NM[:, None].expand(-1, _GROUP, -1))
    start_Y1 = torch.arange(0, even, columns)[:, None]
    token_NX = (start_Y1 + chosen_NM[:, None]).flatten(1)
    rest_NX = torch.arange(even, logits_NC.shape[1]).expand(len(logits_NC), -1)
    value_NX = torch.cat([value_NYM.flatten(1), logits_NC[:, even:]], dim=1)
    best_NM, place_NM = value_NX.topk(count, dim=-1)
    return best_NM, torch.cat([token_NX, rest_NX], dim=1).gather(1, place_NM)
