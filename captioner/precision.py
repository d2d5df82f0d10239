"""In which precision a training computes: a rule of hardware and width, never a timing."""

from typing import TYPE_CHECKING

from captioner.devices import LEAST_WIDTH, resolve_device, resolve_dtype

if TYPE_CHECKING:
    from captioner.model import CaptionModel
    from captioner.recipe import Recipe


def training_dtype(device: str = "auto") -> str:
    """The precision a device is made for: bfloat16 where it multiplies that faster than float32.

    That is a CPU with AMX or AMD's AVX512-BF16, and CUDA from compute capability 8; older cards
    have float16. Weights stay in float32 wherever a training computes.
    """
    return resolve_dtype("auto", resolve_device(device), LEAST_WIDTH)


def precise(recipe: "Recipe", model: "CaptionModel", dtype: str) -> "Recipe":
    """The recipe with `auto` settled for `model`, on a device that is made for `dtype`."""
    if recipe.precision != "auto":
        return recipe
    return recipe.changed({"precision": fitting(model.language.token_dim, dtype)})


def fitting(width: int, dtype: str) -> str:
    """`dtype`, or float32 for a language model too narrow to gain by it."""
    return dtype if width >= LEAST_WIDTH else "float32"
