"""Linear layers whose weights oneDNN has laid out beforehand, for inference on a CPU.

A plain linear layer reorders its weights at every call, which costs a part of its time: on two
cores of a Xeon, 64 rows in float32 go at 295 GFLOP/s packed and 225 plain, 256 rows at 320 and 270.
Where nothing is gained (another device or precision) the layer computes as before.

Shapes:  I in features   O out features
"""

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["none", "gelu", "gelu_tanh"]

_POINTWISE: dict[Activation, tuple[str, str]] = {
    "none": ("none", "none"),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
}
_MADE_FOR = {
    torch.float32: "_is_avx512_supported",
    torch.bfloat16: "_is_avx512_bf16_supported",
}
"""By precision the question that torch.cpu answers; there is no public one yet."""


class PackedLinear(nn.Module):
    """What `weight_OI` and `bias_O` compute, and an activation in the same pass.

    For inference: it has no gradients, and it keeps its device and precision. It holds the
    packed weights alone, so that a model's memory does not double.
    """

    weight_OI: Tensor | None
    bias_O: Tensor | None

    def __init__(
        self, weight_OI: Tensor, bias_O: Tensor | None = None, activation: Activation = "none"
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight_OI.shape
        self.activation: Activation = activation
        weight_OI = weight_OI.detach()
        packs = packs_linear(weight_OI)
        self._packed_OI: Any = _pack(weight_OI) if packs else None
        self.register_buffer("weight_OI", None if packs else weight_OI, persistent=False)
        bias_O = None if bias_O is None else bias_O.detach()
        self.register_buffer("bias_O", bias_O, persistent=False)

    @classmethod
    def of(cls, layer: nn.Module, activation: Activation = "none") -> "PackedLinear":
        """The layer that computes what an `nn.Linear` or transformers' Conv1D does."""
        return cls(*weights_of(layer), activation)

    def forward(self, x_I: Tensor, plus: Tensor | None = None) -> Tensor:
        """x_O for any number of leading dimensions, with `plus` added to it.

        A layer with an activation takes no `plus`.
        """
        if self.weight_OI is not None:
            x_O = functional.linear(x_I, self.weight_OI, self.bias_O)
            return activated(self.activation, x_O) if plus is None else x_O.add_(plus)
        if plus is not None:
            added = torch.ops.mkldnn._linear_pointwise.binary  # noqa: SLF001 - inductor's own call
            return cast("Tensor", added(x_I, plus, self._packed_OI, self.bias_O, "add"))
        attr, algorithm = _POINTWISE[self.activation]
        made = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - inductor's own call
        return cast("Tensor", made(x_I, self._packed_OI, self.bias_O, attr, [], algorithm))

    def extra_repr(self) -> str:
        """As of nn.Linear."""
        packed = self._packed_OI is not None
        return f"{self.in_features} -> {self.out_features}, {self.activation}, packed={packed}"


def weights_of(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """weight_OI and bias_O, if there is one, of an `nn.Linear` or transformers' Conv1D."""
    weight: Tensor = layer.get_parameter("weight")
    bias = layer.bias if isinstance(layer.bias, Tensor) else None
    return weight if isinstance(layer, nn.Linear) else weight.t(), bias


def packs_linear(weight_OI: Tensor) -> bool:
    """Whether packing gains anything: float32 and bfloat16 on a CPU with instructions for them."""
    if weight_OI.device.type != "cpu" or weight_OI.dtype not in _MADE_FOR:
        return False
    made_for = getattr(torch.cpu, _MADE_FOR[weight_OI.dtype], bool)
    return bool(torch.backends.mkldnn.is_available() and made_for())  # type: ignore[no-untyped-call]


def _pack(weight_OI: Tensor) -> Any:
    return torch.ops.mkldnn._reorder_linear_weight(  # noqa: SLF001 - inductor's own call
        weight_OI.contiguous()
    )


def activated(activation: Activation, x_O: Tensor) -> Tensor:
    """`x_O` after an activation."""
    if activation == "none":
        return x_O
    return functional.gelu(x_O, approximate="tanh" if activation == "gelu_tanh" else "none")
