"""From logits to the next token: what may not be said, and draws that depend on nothing else.

Shapes:  B rows   T tokens so far   V vocabulary
"""

import torch
from torch import Tensor

from captioner.decoding import Beam, Greedy, Sample

_NEVER = -torch.inf
_NEARLY_1 = 1 - 2**-40  # 1 itself could fall on a forbidden last token


class Constraints:
    """The settings that forbid or hinder tokens, in the order transformers applies them."""

    def __init__(self, settings: Greedy | Beam | Sample) -> None:
        self.settings = settings
        self.idle = (
            settings.repetition_penalty == 1.0
            and not settings.no_repeat_ngram
            and not settings.min_tokens
        )

    def shape(self, next_BV: Tensor, token_BT: Tensor, written_B: Tensor) -> Tensor:
        """The logits after which a token is chosen; `next_BV` itself stays as it is.

        Of `token_BT` the first `written_B` of each row count.
        """
        if self.idle:
            return next_BV
        settings, shaped_BV = self.settings, next_BV.clone()
        past_BT = torch.arange(token_BT.shape[1], device=token_BT.device) >= written_B[:, None]
        if settings.repetition_penalty != 1.0:
            _hinder(shaped_BV, token_BT, past_BT, settings.repetition_penalty)
        if settings.no_repeat_ngram:
            _forbid_ngrams(shaped_BV, token_BT, written_B, settings.no_repeat_ngram)
        if settings.min_tokens and settings.stop_ids:
            sayable = [stop for stop in settings.stop_ids if 0 <= stop < shaped_BV.shape[1]]
            early_B = written_B < settings.min_tokens
            shaped_BV[:, sayable] = shaped_BV[:, sayable].masked_fill(early_B[:, None], _NEVER)
        return shaped_BV


def draw(next_BV: Tensor, settings: Sample, chance_B: Tensor) -> Tensor:
    """The token_B at which each row's cumulated probability passes `chance_B` (0 to 1).

    Probabilities are summed in the order of token ids: sorted by size, two equally likely tokens
    could change places with the last bit of a logit, and with them the caption.
    """
    kept_BV = _keep(next_BV / settings.temperature, settings)
    sum_BV = kept_BV.double().softmax(dim=-1).cumsum(dim=-1)
    chance_B = chance_B.to(sum_BV.dtype).clamp_max(_NEARLY_1)
    wanted_B1 = (chance_B * sum_BV[:, -1])[:, None]
    return torch.searchsorted(sum_BV, wanted_B1, right=True)[:, 0].clamp_max(sum_BV.shape[1] - 1)


def _keep(next_BV: Tensor, settings: Sample) -> Tensor:
    """The logits with all tokens forbidden but those that top-k, top-p and min-p let through."""
    if settings.top_k and settings.top_k < next_BV.shape[1]:
        least_B1 = next_BV.topk(settings.top_k, dim=-1).values[:, -1:]
        next_BV = next_BV.masked_fill(next_BV < least_B1, _NEVER)
    if settings.top_p < 1:
        sorted_BV, token_BV = next_BV.sort(dim=-1, descending=True, stable=True)
        before_BV = sorted_BV.softmax(dim=-1).cumsum(dim=-1) - sorted_BV.softmax(dim=-1)
        over_BV = torch.zeros_like(before_BV, dtype=torch.bool)
        over_BV.scatter_(-1, token_BV, before_BV >= settings.top_p)
        next_BV = next_BV.masked_fill(over_BV, _NEVER)
    if settings.min_p:
        chance_BV = next_BV.softmax(dim=-1)
        least_B1 = chance_BV.amax(dim=-1, keepdim=True) * settings.min_p
        next_BV = next_BV.masked_fill(chance_BV < least_B1, _NEVER)
    return next_BV


def _hinder(next_BV: Tensor, token_BT: Tensor, past_BT: Tensor, penalty: float) -> None:
    """Make the tokens that a row has less likely, each once however often it stands there."""
    used_BT = next_BV.gather(-1, token_BT)
    hindered_BT = torch.where(used_BT < 0, used_BT * penalty, used_BT / penalty)
    spare_B1 = torch.full_like(token_BT[:, :1], next_BV.shape[1])  # a column for what is past
    wide_BV = torch.cat([next_BV, next_BV[:, :1]], dim=-1)
    wide_BV.scatter_(-1, torch.where(past_BT, spare_B1, token_BT), hindered_BT)
    next_BV.copy_(wide_BV[:, :-1])


def _forbid_ngrams(next_BV: Tensor, token_BT: Tensor, written_B: Tensor, size: int) -> None:
    """Forbid every token that would complete a run of `size` tokens its row already has."""
    if token_BT.shape[1] < size:
        return
    windows_BWN = token_BT.unfold(1, size, 1)
    back_N = torch.arange(1 - size, 0, device=token_BT.device)
    tail_BN = token_BT.gather(1, (written_B[:, None] + back_N).clamp_min(0))
    same_BW = (windows_BWN[..., :-1] == tail_BN[:, None]).all(dim=-1)
    ends_W = torch.arange(size, token_BT.shape[1] + 1, device=token_BT.device)
    row_M, window_M = (same_BW & (ends_W <= written_B[:, None])).nonzero(as_tuple=True)
    next_BV[row_M, windows_BWN[row_M, window_M, -1]] = _NEVER
