"""Linear layers for writing captions: packed, or in whole numbers of 8 bits.

Shapes:  N rows   I inputs   O outputs
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from captioner.engine.compiled import bits, kernels_for
from captioner.errors import ModelError
from captioner.packed import Activation, PackedLinear, activated, weights_of

_ZERO = 128
"""What stands for 0: oneDNN is fast for inputs of 0 to 255 alone."""


class Linear(Protocol):
    """x_NI -> y_NO."""

    def __call__(self, x_NI: Tensor, plus: Tensor | None = None) -> Tensor:
        """What the layer makes of `x_NI`, with `plus` added to it."""


def linear(weight_OI: Tensor, *, int8: bool) -> Linear:
    """The layer for inference; raises ModelError for int8 where there is no kernel for it."""
    return Int8Linear(weight_OI) if int8 else PackedLinear(weight_OI)


def linear_of(layer: nn.Module, activation: Activation = "none", *, int8: bool) -> Linear:
    """As `linear`, with the bias of a layer of torch or transformers, and an activation."""
    kind = Int8Linear if int8 else PackedLinear
    return kind(*weights_of(layer), activation)


class Int8Linear:
    """A linear layer in 8 bits: weights scaled for each output, inputs for each row as it comes.

    A row is scaled by itself, so that what it becomes does not depend on its neighbours
    (arXiv 2208.07339 calls this vector-wise). Sums are exact whole numbers.
    """

    def __init__(
        self, weight_OI: Tensor, bias_O: Tensor | None = None, activation: Activation = "none"
    ) -> None:
        if weight_OI.device.type != "cpu" or not hasattr(torch.ops.onednn, "qlinear_prepack"):
            raise ModelError("dtype int8 needs a CPU and a torch with oneDNN; use another dtype.")
        weight_OI = weight_OI.detach().float().contiguous()  # prepacking heeds no strides
        self._scale_O = (weight_OI.abs().amax(dim=1) / 127).clamp_min(1e-12)
        whole_OI = (weight_OI / self._scale_O[:, None]).round_().to(torch.int8)
        self._packed: Any = torch.ops.onednn.qlinear_prepack(whole_OI, None)
        self._zero_O = torch.zeros(len(weight_OI), dtype=torch.int32)
        bias_O = self._scale_O.new_zeros(len(weight_OI)) if bias_O is None else bias_O
        self._bias_O = bias_O.detach().float()
        self._activation = activation

    def __call__(self, x_NI: Tensor, plus: Tensor | None = None) -> Tensor:
        """What the layer makes of `x_NI`, with `plus` added to it."""
        y_NO = self._made(x_NI)
        return y_NO if plus is None else y_NO.add_(plus)

    def _made(self, x_NI: Tensor) -> Tensor:
        kernels = kernels_for(x_NI)
        if kernels is None or self._activation == "gelu":
            return self._plain(x_NI)
        whole_NI = torch.empty(x_NI.shape, dtype=torch.uint8)
        scale_N = torch.empty(len(x_NI))
        kernels.quantise(bits(x_NI), bits(whole_NI), bits(scale_N))
        y_NO = self._product(whole_NI, x_NI.dtype)
        gelu = self._activation == "gelu_tanh"
        kernels.finish(bits(y_NO), bits(scale_N), bits(self._bias_O), gelu)
        return y_NO

    def _plain(self, x_NI: Tensor) -> Tensor:
        scale_N1 = (x_NI.float().abs().amax(dim=1, keepdim=True) / 127).clamp_min(1e-12)
        whole_NI = (x_NI / scale_N1).round_().add_(_ZERO).clamp_(1, 255).to(torch.uint8)
        y_NO = self._product(whole_NI, x_NI.dtype) * scale_N1 + self._bias_O
        return activated(self._activation, y_NO).to(x_NI.dtype)

    def _product(self, whole_NI: Tensor, dtype: torch.dtype) -> Tensor:
        """Of whole numbers that are worth 1 each."""
        y_NO: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(whole_NI, 1.0, _ZERO, self._packed, self._scale_O, self._zero_O, None),
            *(1.0, 0, dtype, "none", [], ""),
        )
        return y_NO
