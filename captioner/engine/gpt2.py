"""GPT-2 for writing captions: its weights laid out for inference, its cache preallocated.

It computes what transformers' GPT2LMHeadModel computes, and does not train.
Shapes:  N rows   G slots   K beams   R prefixes   S positions of an opening   T columns
         D token embedding   H heads   E = D / H
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import GPT2LMHeadModel

from captioner.engine.head import PART, HeadedLogits
from captioner.engine.linear import Linear, linear, linear_of
from captioner.engine.pages import Pages
from captioner.engine.slots import portion_of
from captioner.packed import PackedLinear

_TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh")

Norm = tuple[Tensor, Tensor, float]
Attend = Callable[[int, Tensor], Tensor]
"""Of a layer's number and its qkv_N(3D) to what attention gives each row, N x D."""


@dataclass(frozen=True, slots=True)
class _Layer:
    norm_1: Norm
    qkv: Linear
    project: Linear
    norm_2: Norm
    widen: Linear
    narrow: PackedLinear


def can_run(network: Any) -> bool:
    """Whether `network` is a GPT-2 as published, in which nothing is left out here."""
    if not isinstance(network, GPT2LMHeadModel):
        return False
    config = network.config
    odd = (
        config.scale_attn_by_inverse_layer_idx,
        config.reorder_and_upcast_attn,
        config.add_cross_attention,
        not config.scale_attn_weights,
    )
    return config.activation_function in _TANH_GELUS and not any(odd)


class Gpt2Weights:
    """The weights of one network, laid out once and shared by all slots."""

    def __init__(self, network: Any, *, int8: bool = False) -> None:
        """With `int8` nearly all products are in 8 bits; raises ModelError where they cannot be.

        Those that read activations are not, in which few numbers are far larger than the others:
        8 bits there change twice as many captions. Nor is the first block's attention, which
        reads the prefix and the table of positions as they are.
        """
        body = network.transformer
        self.heads = int(network.config.n_head)
        self.token_VD: Tensor = body.wte.weight.detach()
        self.position_TD: Tensor = body.wpe.weight.detach()
        self.layers = [_layer(block, at, int8=int8) for at, block in enumerate(body.h)]
        self.last_norm = _norm(body.ln_f)
        self.head_VD: Tensor = network.lm_head.weight.detach()
        size = PART if self.head_VD.device.type == "cpu" else len(self.head_VD)
        parts = self.head_VD.split(size)
        self._head = [linear(part_CD, int8=int8) for part_CD in parts]
        self._int8 = int8

    def next(self, hidden_ND: Tensor) -> HeadedLogits:
        """What may follow each row."""
        return HeadedLogits(hidden_ND, self._head, self.head_VD, int8=self._int8)

    def run(self, x_ND: Tensor, attend: Attend, last_of: int = 1) -> Tensor:
        """The hidden state of each row after all layers, of every `last_of`-th row in the last.

        Nobody asks what the network says at an opening's earlier positions.
        """
        for number, layer in enumerate(self.layers):
            attended_ND = attend(number, layer.qkv(_normed(x_ND, layer.norm_1)))
            if number == len(self.layers) - 1 and last_of > 1:
                x_ND = x_ND[last_of - 1 :: last_of].contiguous()
                attended_ND = attended_ND[last_of - 1 :: last_of].contiguous()
            x_ND = layer.project(attended_ND, plus=x_ND)
            wide_NF = layer.widen(_normed(x_ND, layer.norm_2))
            x_ND = layer.narrow(wide_NF, plus=x_ND)
        return _normed(x_ND, self.last_norm)


class Gpt2Slots:
    """Slots of one GPT-2; captions enter whenever there is a free one."""

    refills = True

    def __init__(self, weights: Gpt2Weights, opening: Any, slots: int, beams: int) -> None:
        self._weights = weights
        self._opening = opening
        width = weights.token_VD.shape[1]
        like_HE = weights.token_VD.new_zeros(weights.heads, width // weights.heads)
        self._pages = Pages(len(weights.layers), slots, beams, like_HE)
        self._opened = 0
        self._portion = portion_of(slots)

    def enter(self, prefix_RPD: Tensor, rows: Sequence[int], slots: Sequence[int]) -> HeadedLogits:
        """Begin a caption in each of `slots`, after the prefix at the same place of `rows`."""
        spare = -len(prefix_RPD) % self._portion
        if spare:
            prefix_RPD = torch.cat([prefix_RPD, prefix_RPD[-1:].expand(spare, -1, -1)])
        alone = list(rows) == list(range(len(prefix_RPD)))  # each prefix is one slot's, in order
        row_S = None if alone else torch.tensor(rows, device=prefix_RPD.device)
        slot_S = torch.tensor(slots, device=prefix_RPD.device)
        first_RSD, *again = self._opening.readings(prefix_RPD)
        self._opened = first_RSD.shape[1]
        self._pages.enter(slots, self._opened)
        hidden_RD = self._read(first_RSD, row_S, slot_S)
        for start_RSD in again:
            self._read(start_RSD, row_S, slot_S)
        return self._weights.next(hidden_RD if row_S is None else hidden_RD[row_S])

    def step(self, token_GK: Tensor, alive: Sequence[bool]) -> HeadedLogits:
        """Read the token that each row wrote last; what may follow, for all N rows."""
        beams = token_GK.shape[1]
        before = torch.tensor(self._pages.used, device=token_GK.device) - self._opened
        place_G = (self._opened + before.clamp_min(0) // beams).clamp_max(
            len(self._weights.position_TD) - 1
        )
        self._pages.advance(alive)
        added_GD = self._opening.position_weight * self._weights.position_TD[place_G]
        x_GKD = self._weights.token_VD[token_GK] + added_GD[:, None]
        idle_G = torch.tensor([not lives for lives in alive], device=token_GK.device)
        # who is done would go on, and might leave what is not finite to who enters next
        x_ND = x_GKD.masked_fill(idle_G[:, None, None], 0.0).flatten(0, 1)
        return self._weights.next(self._weights.run(x_ND, self._pages.step))

    def follow(self, source_GK: Tensor) -> None:
        """Let beam k of every slot go on from what its beam `source` has read."""
        self._pages.follow(source_GK)

    def keep(self, slots: Sequence[int]) -> None:
        """Leave all slots but these, which are numbered anew in this order."""
        self._pages.keep(slots)

    def wipe(self, slots: Sequence[int]) -> None:
        """Take what is not finite out of slots, so that it cannot reach who enters next."""
        self._pages.wipe(slots)

    def _read(self, start_RSD: Tensor, row_S: Tensor | None, slot_S: Tensor) -> Tensor:
        """Read whole openings; the hidden state at the last position of each: hidden_RD."""
        prefixes, length, _ = start_RSD.shape
        x_ND = (start_RSD + self._weights.position_TD[:length]).flatten(0, 1)

        def attend(layer: int, qkv_NF: Tensor) -> Tensor:
            return self._pages.read(layer, qkv_NF.view(prefixes, length, -1), row_S, slot_S)

        return self._weights.run(x_ND, attend, last_of=length)


def _layer(block: Any, number: int, *, int8: bool) -> _Layer:
    attention = int8 and number > 0
    return _Layer(
        norm_1=_norm(block.ln_1),
        qkv=linear_of(block.attn.c_attn, int8=attention),
        project=linear_of(block.attn.c_proj, int8=attention),
        norm_2=_norm(block.ln_2),
        widen=linear_of(block.mlp.c_fc, "gelu_tanh", int8=int8),
        narrow=PackedLinear.of(block.mlp.c_proj),
    )


def _norm(norm: Any) -> Norm:
    return norm.weight.detach(), norm.bias.detach(), norm.eps


def _normed(x_ND: Tensor, norm: Norm) -> Tensor:
    return functional.layer_norm(x_ND, x_ND.shape[-1:], *norm)
