"""Any causal language model of transformers as slots: captions begin together and leave alone.

Shapes:  G slots   K beams   N = G * K rows   R prefixes   P prefix tokens   D token embedding
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.engine.head import Logits


class TransformersSlots:
    """Slots of a network that keeps its own cache, in which all rows have the same length."""

    refills = False

    def __init__(self, opening: Any, beams: int) -> None:
        self._opening = opening
        self._beams = beams
        self._cache: Any = None
        self._length = 0

    def enter(self, prefix_RPD: Tensor, rows: Sequence[int], slots: Sequence[int]) -> Logits:
        """Begin a caption in every slot, after the prefix at the same place of `rows`."""
        del slots  # all of them, in order
        first_RSD, *again = self._opening.readings(prefix_RPD)
        self._length = first_RSD.shape[1]
        logits_RV, self._cache = self._opening.language.read(first_RSD, None)
        for start_RSD in again:
            _, self._cache = self._opening.language.read(start_RSD, None)
        row_S = torch.tensor(rows, device=prefix_RPD.device)
        self._cache.batch_select_indices(row_S.repeat_interleave(self._beams))
        return Logits(logits_RV[row_S])

    def step(self, token_GK: Tensor, alive: Sequence[bool]) -> Logits:
        """Read the token that each row wrote last; what may follow, for all N rows."""
        del alive
        language, opening = self._opening.language, self._opening
        embedded_N1D = language.embed(token_GK.flatten()[:, None])
        if opening.position_weight > 1:
            more = opening.position_weight - 1
            embedded_N1D = embedded_N1D + more * language.position_table[self._length]
        self._length += 1
        logits_NV, self._cache = language.read(embedded_N1D, self._cache)
        return Logits(logits_NV)

    def follow(self, source_GK: Tensor) -> None:
        """Let beam k of every slot go on from what its beam `source` has read."""
        first_G1 = torch.arange(len(source_GK), device=source_GK.device)[:, None] * self._beams
        self._cache.batch_select_indices((first_G1 + source_GK).flatten())

    def keep(self, slots: Sequence[int]) -> None:
        """Leave all slots but these, which are numbered anew in this order."""
        rows = [slot * self._beams + beam for slot in slots for beam in range(self._beams)]
        device = self._opening.language.network.device
        self._cache.batch_select_indices(torch.tensor(rows, device=device))

    def wipe(self, slots: Sequence[int]) -> None:
        """Nothing: every caption that enters finds an empty cache."""
