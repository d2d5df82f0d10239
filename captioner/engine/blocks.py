"""Where keys and values of captions lie, and what attention finds there.

Shapes:  G slots   K beams   H heads   E width of a head   T columns   R prefixes
         S positions of an opening   U slots that enter   D = H * E
"""

from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from captioner.engine.compiled import bits, kernels_for


class Blocks(Protocol):
    """Keys and values of each layer, T columns for each slot."""

    def grow(self, columns: int) -> None:
        """Make room for so many more columns."""

    def read(self, layer: int, qkv_RS3HE: Tensor, row_U: Tensor | None, slot_U: Tensor) -> Tensor:
        """What each position of an opening finds in itself and those before it, (R * S) x D.

        Keys and values of the rows `row_U`, by default of all, become the first columns of slots.
        """

    def step(
        self, layer: int, qkv_GK3HE: Tensor, place_GK: Tensor, mask_GKT: Tensor, used_G: Tensor
    ) -> Tensor:
        """Write each beam's key and value into its column; what it then finds, (G * K) x D.

        It reads the columns whose mask is 0, which lie among the first `used_G`. What is found in
        a slot that uses none means nothing, but is finite.
        """

    def keep(self, slot_G: Tensor, columns: int) -> None:
        """Leave all slots but these, in this order, and the first columns."""

    def wipe(self, slot_G: Tensor) -> None:
        """Let nothing that is not finite be read by who enters these slots next."""


def blocks_for(layers: int, slots: int, like_HE: Tensor) -> Blocks:
    """No columns yet; `like_HE` tells heads, their width, device and precision."""
    kernels = kernels_for(like_HE)
    if kernels is None:
        return TorchBlocks(layers, slots, like_HE)
    return CompiledBlocks(kernels, layers, slots, like_HE)


class CompiledBlocks:
    """Blocks (G, T, H, E): a slot's columns are read one after the other, and no others."""

    def __init__(self, kernels: ModuleType, layers: int, slots: int, like_HE: Tensor) -> None:
        self._kernels = kernels
        self._blocks = [like_HE.new_empty(slots, 0, *like_HE.shape) for _ in range(2 * layers)]

    def grow(self, columns: int) -> None:
        """Make room for so many more columns."""
        for number, block in enumerate(self._blocks):  # one by one: memory for two of a block
            slots, have, heads, width = block.shape
            longer = block.new_empty(slots, have + columns, heads, width)
            longer[:, :have] = block
            self._blocks[number] = longer

    def read(self, layer: int, qkv_RS3HE: Tensor, row_U: Tensor | None, slot_U: Tensor) -> Tensor:
        """What each position of an opening finds in itself and those before it."""
        if row_U is None:
            row_U = torch.arange(len(slot_U))
        keys, values = self._blocks[2 * layer : 2 * layer + 2]
        qkv = bits(qkv_RS3HE)
        self._kernels.fill(qkv, bits(row_U), bits(slot_U), bits(keys), bits(values))
        out_RSHE = torch.empty_like(qkv_RS3HE[:, :, 0], memory_format=torch.contiguous_format)
        self._kernels.read(qkv, bits(out_RSHE))
        return out_RSHE.flatten(0, 1).flatten(1)

    def step(
        self, layer: int, qkv_GK3HE: Tensor, place_GK: Tensor, mask_GKT: Tensor, used_G: Tensor
    ) -> Tensor:
        """Write each beam's key and value into its column; what it then finds."""
        keys, values = self._blocks[2 * layer : 2 * layer + 2]
        out_GKHE = torch.empty_like(qkv_GK3HE[:, :, 0], memory_format=torch.contiguous_format)
        arrays = (qkv_GK3HE, keys, values, place_GK, mask_GKT, used_G, out_GKHE)
        self._kernels.step(*map(bits, arrays))
        return out_GKHE.flatten(0, 1).flatten(1)

    def keep(self, slot_G: Tensor, columns: int) -> None:
        """Leave all slots but these, in this order, and the first columns."""
        self._blocks = [block[:, :columns].index_select(0, slot_G) for block in self._blocks]

    def wipe(self, slot_G: Tensor) -> None:
        """Nothing: columns that nobody wrote since are never read."""


class TorchBlocks:
    """Blocks (G, H, T, E) for torch's operators.

    Each block is contiguous and no longer than it must be: a batched product of strided blocks
    takes five times as long on a CPU.
    """

    def __init__(self, layers: int, slots: int, like_HE: Tensor) -> None:
        heads, width = like_HE.shape
        self._blocks = [like_HE.new_zeros(slots, heads, 0, width) for _ in range(2 * layers)]

    def grow(self, columns: int) -> None:
        """Make room for so many more columns."""
        for number, block in enumerate(self._blocks):  # one by one: memory for two of a block
            self._blocks[number] = _longer(block, columns)

    def read(self, layer: int, qkv_RS3HE: Tensor, row_U: Tensor | None, slot_U: Tensor) -> Tensor:
        """What each position of an opening finds in itself and those before it."""
        query, key, value = qkv_RS3HE.permute(2, 0, 3, 1, 4)
        length = query.shape[2]
        pair = self._blocks[2 * layer], self._blocks[2 * layer + 1]
        for block, new in zip(pair, (key, value), strict=True):
            _wide(block)[slot_U, :, :length] = _wide(new if row_U is None else new[row_U])
        later = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
        mask_SS = query.new_zeros(length, length).masked_fill(later, -torch.inf)
        return _attention(query, key, value, mask_SS)

    def step(
        self, layer: int, qkv_GK3HE: Tensor, place_GK: Tensor, mask_GKT: Tensor, used_G: Tensor
    ) -> Tensor:
        """Write each beam's key and value into its column; what it then finds."""
        del used_G
        query, key, value = qkv_GK3HE.unbind(2)
        slot_G1 = torch.arange(len(place_GK), device=place_GK.device)[:, None]
        pair = self._blocks[2 * layer], self._blocks[2 * layer + 1]
        for block, new in zip(pair, (key, value), strict=True):
            _wide(block).transpose(1, 2)[slot_G1, place_GK] = _wide(new)
        return _attention(query.transpose(1, 2), *pair, mask_GKT[:, None])

    def keep(self, slot_G: Tensor, columns: int) -> None:
        """Leave all slots but these, in this order, and the first columns."""
        self._blocks = [block[:, :, :columns].index_select(0, slot_G) for block in self._blocks]

    def wipe(self, slot_G: Tensor) -> None:
        """Put zeros there: what is masked takes part in sums, and 0 * NaN is NaN."""
        for block in self._blocks:
            block[slot_G] = 0.0


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attention of query_GHKE over columns T, heads side by side again: N x D."""
    slots, heads, queries, width = query.shape
    if query.device.type != "cpu":
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return found.transpose(1, 2).reshape(slots * queries, heads * width)
    # a CPU's fused kernel is made for long sequences: three times slower here
    scaled = (query * width**-0.5).reshape(slots * heads, queries, width)
    score = torch.bmm(scaled, key.reshape(slots * heads, -1, width).transpose(1, 2))
    chance = (score.view(slots, heads, queries, -1) + mask).softmax(dim=-1)
    found = torch.bmm(chance.flatten(0, 1), value.reshape(slots * heads, -1, width))
    return found.view(slots, heads, queries, width).transpose(1, 2).reshape(slots * queries, -1)


def _wide(x_E: Tensor) -> Tensor:
    """The same memory as numbers of 16 bytes where it can be: a CPU moves them one by one."""
    many = 16 // x_E.element_size()
    steps = (*x_E.stride()[:-1], x_E.storage_offset(), x_E.shape[-1])
    if x_E.device.type != "cpu" or x_E.stride(-1) != 1 or any(step % many for step in steps):
        return x_E
    return x_E.view(torch.complex128)


def _longer(block_GHTE: Tensor, more: int) -> Tensor:
    """The block with `more` columns of zeros: what is masked must be finite all the same."""
    slots, heads, columns, width = block_GHTE.shape
    longer = block_GHTE.new_empty(slots, heads, columns + more, width)
    longer[:, :, :columns] = block_GHTE
    longer[:, :, columns:] = 0.0
    return longer
