"""From hidden states to the likeliest tokens, a part of the vocabulary at a time.

Shapes:  N rows   D hidden state   V vocabulary   C tokens of a part   M likeliest tokens
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from captioner.engine.likeliest import best, likeliest, top
from captioner.engine.linear import Linear

PART = 12800
"""Tokens whose logits are made at once on a CPU: few enough to be read again from its cache."""
_MORE = 3
"""Tokens beyond those asked for whose order half precision may have wrong."""


class Logits:
    """What may follow each row, where all logits are at hand."""

    def __init__(self, logits_NV: Tensor) -> None:
        self._logits_NV = logits_NV

    def best(self) -> tuple[Tensor, Tensor]:
        """The likeliest token_N and its log-probability; of equally likely ones the lowest id."""
        return best([(0, self._logits_NV)])

    def top(self, count: int) -> tuple[Tensor, Tensor]:
        """The `count` likeliest token_NM and their log-probabilities, likeliest first."""
        return top([(0, self._logits_NV)], min(count, self._logits_NV.shape[1]))

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
            return best(self._made())
        token_NM, logit_NM, total_N = self._in_question(1)
        most_N1 = logit_NM.amax(dim=-1, keepdim=True)
        last = len(self._head_VD) - 1
        token_N = token_NM.masked_fill(logit_NM < most_N1, last).amin(dim=-1)
        return token_N, (most_N1[:, 0] - total_N).clamp_max(0.0)

    def top(self, count: int) -> tuple[Tensor, Tensor]:
        """The `count` likeliest token_NM and their log-probabilities, likeliest first."""
        count = min(count, len(self._head_VD))
        if self._exact:
            return top(self._made(), count)
        token_NM, logit_NM, total_N = self._in_question(count)
        best_NM, place_NM = logit_NM.topk(count, dim=-1)
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
        count = min(count + _MORE, len(self._head_VD))
        token_NM, rough_NM, rough_N = likeliest(self._made(), count)
        row_NMD = functional.embedding(token_NM, self._head_VD).float()
        logit_NM = torch.bmm(row_NMD, self._hidden_ND.float()[..., None])[..., 0]
        share_N = (rough_NM.logsumexp(dim=-1) - rough_N).exp().clamp_max(1.0)
        rest_N = rough_N + (-share_N).log1p()
        return token_NM, logit_NM, torch.logaddexp(rest_N, logit_NM.logsumexp(dim=-1))
