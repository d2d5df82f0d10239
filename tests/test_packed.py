"""Linear layers with packed weights compute what the plain ones do."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from captioner.packed import Activation, PackedLinear, packs_linear

PLAIN = {
    "none": lambda x: x,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
}


def layer_and_input(dtype: torch.dtype, *, bias: bool = True) -> tuple[nn.Linear, torch.Tensor]:
    torch.manual_seed(1)
    layer = nn.Linear(96, 160, bias=bias).to(dtype)
    return layer, torch.randn(4, 7, 96).to(dtype)


@torch.inference_mode()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", list(PLAIN))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_layer_computes_what_the_plain_one_does(
    dtype: torch.dtype, activation: Activation, bias: bool
) -> None:
    layer, x = layer_and_input(dtype, bias=bias)
    expected = PLAIN[activation](functional.linear(x.float(), layer.weight.float(), None))
    if bias:
        expected = PLAIN[activation](
            functional.linear(x.float(), layer.weight.float(), layer.bias.float())
        )
    found = PackedLinear.of(layer, activation)(x)
    assert found.dtype == dtype
    assert found.shape == (4, 7, 160)
    tolerance = 1e-5 if dtype == torch.float32 else 8e-3  # a step of bfloat16 near 1
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_transposed_weights_of_gpt2_are_taken_too(dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    layer = Conv1D(160, 96).to(dtype)
    x = torch.randn(70, 96).to(dtype)
    torch.testing.assert_close(PackedLinear.of(layer)(x), layer(x), rtol=1e-2, atol=1e-2)


def test_packed_weights_are_held_once() -> None:
    layer, _ = layer_and_input(torch.bfloat16)
    assert (PackedLinear.of(layer).weight_OI is None) == packs_linear(layer.weight)


def test_weights_that_gain_nothing_are_left_as_they_are() -> None:
    assert not packs_linear(torch.empty(1, 1, dtype=torch.float16))
    assert not packs_linear(torch.empty(1, 1, dtype=torch.bfloat16, device="meta"))
