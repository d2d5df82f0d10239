"""The product with the vocabulary: packed, or in whole numbers of 8 bits.

Shapes:  N rows   I inputs   O outputs
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from captioner.errors import ModelError
from captioner.packed import PackedLinear

_ZERO = 128
"""What stands for 0: oneDNN is fast for inputs of 0 to 255 alone."""


class Linear(Protocol):
    """x_NI -> y_NO."""

    def __call__(self, x_NI: Tensor) -> Tensor:
        """What the layer makes of `x_NI`."""


def linear(weight_OI: Tensor, *, int8: bool) -> Linear:
    """The layer for inference; raises ModelError for int8 where there is no kernel for it."""
    return Int8Linear(weight_OI) if int8 else PackedLinear(weight_OI)


class Int8Linear:
    """A linear layer in 8 bits: weights scaled for each output, inputs for each row as it comes.

    A row is scaled by itself, so that what it becomes does not depend on its neighbours
    (arXiv 2208.07339 calls this vector-wise). Sums are exact whole numbers.
    """

    def __init__(self, weight_OI: Tensor) -> None:
        if weight_OI.device.type != "cpu" or not hasattr(torch.ops.onednn, "qlinear_prepack"):
            raise ModelError("dtype int8 needs a CPU and a torch with oneDNN; use another dtype.")
        weight_OI = weight_OI.detach().float().contiguous()  # prepacking heeds no strides
        self._scale_O = (weight_OI.abs().amax(dim=1) / 127).clamp_min(1e-12)
        whole_OI = (weight_OI / self._scale_O[:, None]).round_().to(torch.int8)
        self._packed: Any = torch.ops.onednn.qlinear_prepack(whole_OI, None)
        self._zero_O = torch.zeros(len(weight_OI), dtype=torch.int32)

    def __call__(self, x_NI: Tensor) -> Tensor:
        """What the layer makes of `x_NI`."""
        scale_N1 = (x_NI.abs().amax(dim=1, keepdim=True) / 127).clamp_min(1e-12)
        whole_NI = (x_NI / scale_N1).round_().add_(_ZERO).clamp_(1, 255).to(torch.uint8)
        y_NO: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(whole_NI, 1.0, _ZERO, self._packed, self._scale_O, self._zero_O, None),
            *(1.0, 0, x_NI.dtype, "none", [], ""),
        )
        return y_NO.mul_(scale_N1)
