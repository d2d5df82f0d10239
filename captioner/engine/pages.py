"""Who reads which keys and values of captions being written; they lie in `blocks`.

Shapes:  G slots   K beams   H heads   E width of a head   T columns   D = H * E
         R prefixes   S positions of an opening   U slots that enter
A column is a position that was read. The K beams of a slot share its columns: each reads those
that its own history wrote, so that beams go on from others without a key being moved.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from captioner.engine.blocks import blocks_for

_GRAIN = 8
"""Steps for which room is made at once: moving all blocks costs more than a few idle columns."""


class Pages:
    """The cache of one network: the columns of each slot, and which of them each beam reads."""

    def __init__(self, layers: int, slots: int, beams: int, like_HE: Tensor) -> None:
        """`like_HE` tells heads, their width, device and precision."""
        self.beams = beams
        self._like_HE = like_HE
        self._blocks = blocks_for(layers, slots, like_HE)
        self._mask_GKT = like_HE.new_zeros(slots, beams, 0)
        """0 where a beam reads a column, else -inf."""
        self._used = [0] * slots
        self._read_G = torch.zeros(slots, dtype=torch.long, device=like_HE.device)
        self._place_GK = torch.zeros(slots, beams, dtype=torch.long, device=like_HE.device)

    @property
    def used(self) -> list[int]:
        """Columns of each slot."""
        return self._used

    def enter(self, slots: Sequence[int], columns: int) -> None:
        """Empty these slots and let their beams read the `columns` that `read` brings."""
        self._make_room(columns)
        slot_U = self._indices(slots)
        self._mask_GKT[slot_U] = -torch.inf
        self._mask_GKT[slot_U, :, :columns] = 0
        for slot in slots:
            self._used[slot] = columns

    def read(self, layer: int, qkv_RSF: Tensor, row_U: Tensor | None, slot_U: Tensor) -> Tensor:
        """Attention within openings, (R * S) x D, whose columns become the first of slots."""
        qkv_RS3HE = qkv_RSF.view(*qkv_RSF.shape[:2], 3, *self._like_HE.shape)
        return self._blocks.read(layer, qkv_RS3HE, row_U, slot_U)

    def advance(self, alive: Sequence[bool]) -> None:
        """Give every living slot K new columns, of which each beam reads its own."""
        room = max((n for n, lives in zip(self._used, alive, strict=True) if lives), default=0)
        self._make_room(room + self.beams)
        last = self._mask_GKT.shape[2] - self.beams
        first_G = self._indices([min(n, last) for n in self._used])
        self._place_GK = first_G[:, None] + torch.arange(self.beams, device=first_G.device)
        self._mask_GKT.scatter_(2, self._place_GK[..., None], 0.0)
        self._used = [n + lives * self.beams for n, lives in zip(self._used, alive, strict=True)]
        self._read_G = self._indices(
            [n * lives for n, lives in zip(self._used, alive, strict=True)]
        )

    def step(self, layer: int, qkv_NF: Tensor) -> Tensor:
        """Give each beam's new column its key and value; attention over what it reads, N x D."""
        qkv_GK3HE = qkv_NF.view(len(self._used), self.beams, 3, *self._like_HE.shape)
        return self._blocks.step(layer, qkv_GK3HE, self._place_GK, self._mask_GKT, self._read_G)

    def follow(self, source_GK: Tensor) -> None:
        """Let beam k of every slot read what its beam `source` read."""
        whose = source_GK[..., None].expand(-1, -1, self._mask_GKT.shape[2])
        self._mask_GKT = self._mask_GKT.gather(1, whose)

    def keep(self, slots: Sequence[int]) -> None:
        """Leave all slots but these, in this order."""
        slot_G = self._indices(slots)
        self._used = [self._used[slot] for slot in slots]
        columns = max(self._used, default=0)
        self._blocks.keep(slot_G, columns)
        self._mask_GKT = self._mask_GKT[slot_G, :, :columns].contiguous()

    def wipe(self, slots: Sequence[int]) -> None:
        """Take what is not finite out of these slots."""
        self._blocks.wipe(self._indices(slots))

    def _make_room(self, columns: int) -> None:
        have = self._mask_GKT.shape[2]
        if columns <= have:
            return
        grain = _GRAIN * self.beams
        more = -(-(columns - have) // grain) * grain
        self._blocks.grow(more)
        self._mask_GKT = functional.pad(self._mask_GKT, (0, more), value=-torch.inf)

    def _indices(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._like_HE.device)
