"""From hidden states to the likeliest tokens, a part of the vocabulary at a time.

Shapes:  N rows   D hidden state   V vocabulary   C tokens of a part   M likeliest tokens
         Y tokens of a group   X groups, or tokens in question
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from captioner.engine.linear import Linear

PART = 12800
"""Tokens whose logits are made at once on a CPU: few enough to be read again from its cache."""
_GROUP = 32
"""Tokens of which one maximum is taken before the likeliest are looked for."""
_MORE = 3
"""Tokens beyond those asked for whose order half precision may have wrong."""


class Logits:
    """What may follow each row, where all logits are at hand."""

    def __init__(self, logits_NV: Tensor) -> None:
        self._logits_NV = logits_NV

    def best(self) -> tuple[Tensor, Tensor]:
        """The likeliest token_N and its log-probability; of equally likely ones the lowest id."""
        return _best([(0, self._logits_NV)])

    def top(self, count: int) -> tuple[Tensor, Tensor]:
        """The `count` likeliest token_NM and their log-probabilities, likeliest first."""
        return _top([(0, self._logits_NV)], count)

    def logits(self) -> Tensor:
        """All logits_NV in float32."""
        return self._logits_NV.float()


class HeadedLogits:
    """What may follow each row, its logits made from hidden states when they are asked for.

    Half precision tells numbers around 8 apart only if they differ by 1/16, and tokens that are
    nearly as likely as each other by less: those in question are computed once more in float32,
    and likewise where `parts` compute in 8 bits.
    """

    def __init__(
        self, hidden_ND: Tensor, parts: Sequence[Linear], head_VD: Tensor, *, int8: bool = False
    ) -> None:
        self._hidden_ND = hidden_ND
        self._parts = parts
        self._head_VD = head_VD
        self._exact = hidden_ND.dtype == torch.float32 and not int8

    def best(self) -> tuple[Tensor, Tensor]:
        """The likeliest token_N and its log-probability; of equally likely ones the lowest id."""
        if self._exact:
            return _best(self._made())
        token_NM, logit_NM, total_N = self._in_question(1)
        most_N1 = logit_NM.amax(dim=-1, keepdim=True)
        last = len(self._head_VD) - 1
        token_N = token_NM.masked_fill(logit_NM < most_N1, last).amin(dim=-1)
        return token_N, (most_N1[:, 0] - total_N).clamp_max(0.0)

    def top(self, count: int) -> tuple[Tensor, Tensor]:
        """The `count` likeliest token_NM and their log-probabilities, likeliest first."""
        if self._exact:
            return _top(self._made(), count)
        token_NM, logit_NM, total_N = self._in_question(count)
        best_NM, place_NM = logit_NM.topk(min(count, logit_NM.shape[1]), dim=-1)
        return token_NM.gather(1, place_NM), (best_NM - total_N[:, None]).clamp_max(0.0)

    def logits(self) -> Tensor:
        """All logits_NV in float32."""
        return torch.cat([logits_NC for _, logits_NC in self._made()], dim=-1).float()

    def _made(self) -> Iterator[tuple[int, Tensor]]:
        first = 0
        for part in self._parts:
            logits_NC = part(self._hidden_ND)
            yield first, logits_NC
            first += logits_NC.shape[-1]

    def _in_question(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """More than the `count` likeliest token_NM, their logits, and all logits' logsumexp.

        Their rounded terms are taken out of the sum and exact ones put in: a token that is nearly
        certain is nearly all of the sum, and its log-probability would be what rounding changed.
        """
        token_NM, rough_NM, rough_N = _likeliest(self._made(), count + _MORE)
        row_NMD = functional.embedding(token_NM, self._head_VD).float()
        logit_NM = torch.bmm(row_NMD, self._hidden_ND.float()[..., None])[..., 0]
        share_N = (rough_NM.logsumexp(dim=-1) - rough_N).exp().clamp_max(1.0)
        rest_N = rough_N + (-share_N).log1p()
        return token_NM, logit_NM, torch.logaddexp(rest_N, logit_NM.logsumexp(dim=-1))


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


def _best(parts: Iterable[tuple[int, Tensor]]) -> tuple[Tensor, Tensor]:
    total = _Sum()
    token_N = logit_N = None
    for first, logits_NC in parts:
        most_N, place_N = logits_NC.max(dim=-1)
        total.add(logits_NC, most_N)
        if token_N is None or logit_N is None:
            token_N, logit_N = place_N, most_N
            continue
        better_N = most_N > logit_N
        token_N = torch.where(better_N, place_N + first, token_N)
        logit_N = torch.where(better_N, most_N, logit_N)
    assert token_N is not None and logit_N is not None  # noqa: S101, PT018
    return token_N, logit_N.float() - total.log()


def _top(parts: Iterable[tuple[int, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    token_NM, logit_NM, total_N = _likeliest(parts, count)
    return token_NM, logit_NM - total_N[:, None]


def _likeliest(parts: Iterable[tuple[int, Tensor]], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` likeliest token_NM, likeliest first, their logits, and all logits' logsumexp."""
    total = _Sum()
    tokens, logits = [], []
    for first, logits_NC in parts:
        best_NM, place_NM = _largest(logits_NC, count)
        total.add(logits_NC, best_NM[:, 0])
        tokens.append(place_NM + first)
        logits.append(best_NM.float())
    if len(tokens) == 1:
        return tokens[0], logits[0], total.log()
    logits_NX = torch.cat(logits, dim=-1)
    best_NM, place_NM = logits_NX.topk(min(count, logits_NX.shape[1]), dim=-1)
    return torch.cat(tokens, dim=-1).gather(1, place_NM), best_NM, total.log()


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
