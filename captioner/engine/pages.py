"""Keys and values of captions being written, in blocks that grow with the longest of them.

Shapes:  G slots   K beams   H heads   E width of a head   T columns   S slots in question
A column is a position that was read. The K beams of a slot share its columns: each reads those
that its own history wrote, so that beams go on from others without a key being moved.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_GRAIN = 8
"""Steps for which room is made at once: moving all blocks costs more than a few idle columns."""


class Pages:
    """The cache of one network: keys and values (G, H, T, E) of each layer, and who reads what.

    Each block is contiguous and no longer than it must be: a batched product of strided blocks
    takes five times as long on a CPU.
    """

    def __init__(self, layers: int, slots: int, beams: int, like_HE: Tensor) -> None:
        """`like_HE` tells heads, their width, device and precision."""
        self.beams = beams
        self._like_HE = like_HE
        heads, width = like_HE.shape
        self._blocks = [like_HE.new_zeros(slots, heads, 0, width) for _ in range(2 * layers)]
        self._mask_GKT = like_HE.new_zeros(slots, beams, 0)
        self._used = [0] * slots
        self._place_GK = torch.zeros(slots, beams, dtype=torch.long, device=like_HE.device)

    @property
    def used(self) -> list[int]:
        """Columns of each slot."""
        return self._used

    @property
    def mask(self) -> Tensor:
        """mask_GKT: 0 where a beam reads a column, else -inf; to be added to its scores."""
        return self._mask_GKT

    def enter(self, slots: Sequence[int], columns: int) -> None:
        """Empty these slots and let their beams read the `columns` that `fill` brings."""
        self._make_room(columns)
        slot_S = self._indices(slots)
        self._mask_GKT[slot_S] = -torch.inf
        self._mask_GKT[slot_S, :, :columns] = 0
        for slot in slots:
            self._used[slot] = columns

    def fill(self, layer: int, slot_S: Tensor, keys_SHTE: Tensor, values_SHTE: Tensor) -> None:
        """Bring the first columns of slots that entered, whatever they held before."""
        columns = keys_SHTE.shape[2]
        pair = self._blocks[2 * layer], self._blocks[2 * layer + 1]
        for block, new in zip(pair, (keys_SHTE, values_SHTE), strict=True):
            _wide(block)[slot_S, :, :columns] = _wide(new)

    def advance(self, alive: Sequence[bool]) -> None:
        """Give every living slot K new columns, of which each beam reads its own."""
        room = max((n for n, lives in zip(self._used, alive, strict=True) if lives), default=0)
        self._make_room(room + self.beams)
        last = self._mask_GKT.shape[2] - self.beams
        first_G = self._indices([min(n, last) for n in self._used])
        self._place_GK = first_G[:, None] + torch.arange(self.beams, device=first_G.device)
        self._mask_GKT.scatter_(2, self._place_GK[..., None], 0.0)
        self._used = [n + lives * self.beams for n, lives in zip(self._used, alive, strict=True)]

    def write(self, layer: int, keys_GKHE: Tensor, values_GKHE: Tensor) -> tuple[Tensor, Tensor]:
        """Put a key and a value into each beam's new column; gives the layer's two blocks."""
        slot_G1 = torch.arange(len(self._used), device=keys_GKHE.device)[:, None]
        pair = self._blocks[2 * layer], self._blocks[2 * layer + 1]
        for block, new in zip(pair, (keys_GKHE, values_GKHE), strict=True):
            _wide(block).transpose(1, 2)[slot_G1, self._place_GK] = _wide(new)
        return pair

    def follow(self, source_GK: Tensor) -> None:
        """Let beam k of every slot read what its beam `source` read."""
        whose = source_GK[..., None].expand(-1, -1, self._mask_GKT.shape[2])
        self._mask_GKT = self._mask_GKT.gather(1, whose)

    def keep(self, slots: Sequence[int]) -> None:
        """Leave all slots but these, in this order."""
        slot_S = self._indices(slots)
        self._used = [self._used[slot] for slot in slots]
        columns = max(self._used, default=0)
        self._blocks = [block[slot_S, :, :columns].contiguous() for block in self._blocks]
        self._mask_GKT = self._mask_GKT[slot_S, :, :columns].contiguous()

    def wipe(self, slots: Sequence[int]) -> None:
        """Put zeros where these slots may hold what is not finite: 0 * NaN is NaN."""
        slot_S = self._indices(slots)
        for block in self._blocks:
            block[slot_S] = 0.0

    def _make_room(self, columns: int) -> None:
        have = self._mask_GKT.shape[2]
        if columns <= have:
            return
        grain = _GRAIN * self.beams
        more = -(-(columns - have) // grain) * grain
        for number, block in enumerate(self._blocks):  # one by one: memory for two of a block
            self._blocks[number] = _longer(block, more)
        self._mask_GKT = functional.pad(self._mask_GKT, (0, more), value=-torch.inf)

    def _indices(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._like_HE.device)


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
