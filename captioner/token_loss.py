"""Cross-entropy over a large vocabulary at chosen positions, in pieces: never all logits at once.

Loss and gradient are taken together, piece by piece, as Liger-Kernel (arXiv 2410.10989) does it:
with the softmax at hand the gradient of a logit is its chance, less 1 at the target. So nothing
as large as the logits waits for the backward pass.
Shapes:  B batch   S sequence   D token embedding   N counted positions   V vocabulary
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from captioner.language import LanguageModel

PIECE_BYTES = 1 << 26
"""Logits of one matrix product; more would be no faster."""
_BLOCK_BYTES = 1 << 22
"""Their float32 chances on a CPU, which stay in its cache; a GPU takes a piece at once."""
_plain: "WeakKeyDictionary[LanguageModel, bool]" = WeakKeyDictionary()


class Part(NamedTuple):
    """Some sequences of one length, and where in them a token is foretold."""

    inputs_BSD: Tensor
    at_N: Tensor
    """Places b * S + s."""


def token_loss(language: LanguageModel, parts: Sequence[Part], target_N: Tensor) -> Tensor:
    """Summed cross-entropy (nats) of the logits at the parts' places against `target_N`.

    Logits are computed nowhere else. The targets are in the order of parts and places.
    """
    plain = has_plain_head(language)
    found = []
    for inputs_BSD, at_N in parts:
        if plain:
            whole = hidden(language, inputs_BSD)
        else:
            whole = language.logits(inputs_BSD, inputs_BSD.shape[1])
        found.append(whole.flatten(0, 1).index_select(0, at_N))
    if plain:
        return head_loss(torch.cat(found), language.network.get_output_embeddings(), target_N)
    return functional.cross_entropy(torch.cat(found).float(), target_N, reduction="sum")


def double_softmax_loss(
    language: LanguageModel, inputs_BSD: Tensor, target_BT: Tensor, seen_BS: Tensor
) -> Tensor:
    """Summed cross-entropy, as if of logits, of the chances of the last T positions' tokens.

    Positions where `seen_BS` is False are not attended to. Rows are taken in pieces, whose
    chances the backward pass computes anew.
    """
    columns = target_BT.shape[1]
    plain = has_plain_head(language)
    if plain:
        whole = hidden(language, inputs_BSD, seen_BS)
        head = language.network.get_output_embeddings()
    else:
        whole, head = language.logits(inputs_BSD, max(1, columns), seen_BS), nn.Identity()
    last_BTD = whole[:, whole.shape[1] - columns :]  # none where no caption has two tokens
    rows = max(1, PIECE_BYTES // (4 * max(1, columns) * language.vocabulary))
    loss = torch.zeros((), device=inputs_BSD.device)
    for hidden_bTD, target_bT in zip(
        torch.split(last_BTD, rows), torch.split(target_BT, rows), strict=True
    ):
        loss = loss + checkpoint(_twice, head, hidden_bTD, target_bT, use_reentrant=False)
    return loss


def _twice(head: nn.Module, hidden_bTD: Tensor, target_bT: Tensor) -> Tensor:
    chance_bTV = head(hidden_bTD).float().softmax(dim=-1)
    return functional.cross_entropy(chance_bTV.flatten(0, 1), target_bT.flatten(), reduction="sum")


def hidden(language: LanguageModel, inputs_BSD: Tensor, seen_BS: Tensor | None = None) -> Tensor:
    """What the network's last layer hands to its head: hidden_BSD."""
    output = language.network.base_model(
        inputs_embeds=inputs_BSD, attention_mask=seen_BS, use_cache=False
    )
    hidden_BSD: Tensor = output.last_hidden_state
    return hidden_BSD


def has_plain_head(language: LanguageModel) -> bool:
    """Whether logits are one matrix product of the hidden states, as not in every family.

    Some scale or bound them. Found by trying two positions, once a model.
    """
    if language not in _plain:
        modes = [(part, part.training) for part in language.modules()]
        language.eval()
        _plain[language] = _tried(language)
        for part, training in modes:
            part.training = training
    return _plain[language]


@torch.no_grad()
def _tried(language: LanguageModel) -> bool:
    head = language.network.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        return False
    with torch.autocast(head.weight.device.type, enabled=False):
        inputs_BSD = language.embed(torch.tensor([[0, 1]], device=head.weight.device))
        whole, by_hand = language.logits(inputs_BSD, 2), head(hidden(language, inputs_BSD))
    return torch.allclose(whole, by_hand, rtol=1e-3, atol=1e-4)


def head_loss(hidden_ND: Tensor, head: nn.Linear, target_N: Tensor) -> Tensor:
    """Summed cross-entropy (nats) of `head(hidden_ND)` against `target_N`, in autocast's precision.

    The logits of at most `PIECE_BYTES` are there at a time.
    """
    kind = hidden_ND.device.type
    if torch.is_autocast_enabled(kind):
        hidden_ND = hidden_ND.to(torch.get_autocast_dtype(kind))
    with torch.autocast(kind, enabled=False):
        if not torch.is_grad_enabled():
            return _in_pieces(_Head(hidden_ND, head.weight, head.bias), target_N, None)
        loss: Tensor = _HeadLoss.apply(hidden_ND, head.weight, head.bias, target_N)
        return loss


class _Head:
    """Hidden states and the head in their precision."""

    def __init__(self, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> None:
        self.hidden_ND = hidden_ND.detach()
        self.weight_VD = weight_VD.detach().to(hidden_ND.dtype)
        self.bias_V = None if bias_V is None else bias_V.detach().to(hidden_ND.dtype)

    def logits(self, rows: slice) -> Tensor:
        return functional.linear(self.hidden_ND[rows], self.weight_VD, self.bias_V)


class _Gradients:
    """Of hidden states, weight and bias; None where nobody asks. Sums over pieces are float32."""

    def __init__(self, head: _Head, needed: tuple[bool, ...]) -> None:
        self.needed = needed
        self.hidden_ND = torch.empty_like(head.hidden_ND) if needed[0] else None
        self.weight_VD: Tensor | None = None
        self.bias_V: Tensor | None = None

    def add(self, head: _Head, rows: slice, logit_nV: Tensor) -> None:
        """Add what the gradients of a piece's logits come to."""
        if self.hidden_ND is not None:
            torch.mm(logit_nV, head.weight_VD, out=self.hidden_ND[rows])
        if self.needed[1]:
            self.weight_VD = _sum(self.weight_VD, logit_nV.T @ head.hidden_ND[rows])
        if self.needed[2]:
            self.bias_V = _sum(self.bias_V, logit_nV.sum(0, dtype=torch.float32))

    def scaled(self, scale: Tensor) -> tuple[Tensor | None, ...]:
        """All of them times `scale`, in place."""
        three = (self.hidden_ND, self.weight_VD, self.bias_V)
        return tuple(None if part is None else part.mul_(scale) for part in three)


def _sum(whole: Tensor | None, part: Tensor) -> Tensor:
    return part.float() if whole is None else whole.add_(part)


def _in_pieces(head: _Head, target_N: Tensor, gradients: _Gradients | None) -> Tensor:
    """The summed loss; `gradients` are added up on the way."""
    loss = torch.zeros((), device=target_N.device)
    size = max(1, PIECE_BYTES // (head.weight_VD.shape[0] * head.weight_VD.element_size()))
    for start in range(0, len(target_N), size):
        rows = slice(start, start + size)
        logit_nV = head.logits(rows)
        loss += _softmax_loss(logit_nV, target_N[rows])
        if gradients is not None:
            gradients.add(head, rows, logit_nV)
    return loss


def _softmax_loss(logit_nV: Tensor, target_n: Tensor) -> Tensor:
    """The summed loss; the logits make place for their gradients."""
    loss = torch.zeros((), device=logit_nV.device)
    block = max(1, _BLOCK_BYTES // (4 * logit_nV.shape[1]))
    size = len(target_n) if logit_nV.is_cuda else block
    for start in range(0, len(target_n), size):
        logit_bV, target_b1 = logit_nV[start : start + size], target_n[start : start + size, None]
        # torch's own log_softmax takes four times as long on a CPU
        chance_bV = logit_bV.float()
        chance_bV.sub_(chance_bV.amax(dim=1, keepdim=True))
        loss -= chance_bV.gather(1, target_b1).sum()
        sum_b1 = chance_bV.exp_().sum(dim=1, keepdim=True)
        loss += sum_b1.log().sum()
        chance_bV.mul_(1 / sum_b1)
        chance_bV.scatter_add_(1, target_b1, torch.full_like(sum_b1, -1.0))
        logit_bV.copy_(chance_bV)
    return loss


class _HeadLoss(torch.autograd.Function):
    """`_in_pieces` as a step of the graph: its backward pass has only to scale what is there."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, target_N: Tensor
    ) -> Tensor:
        head = _Head(hidden_ND, weight_VD, bias_V)
        gradients = _Gradients(head, ctx.needs_input_grad)
        loss = _in_pieces(head, target_N, gradients)
        ctx.gradients = gradients
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # scaled in place: once and no more
        return (*gradients.scaled(scale), None)
