"""open_clip's image towers in two parts: what they pool, and its projection beside the texts.

Shapes:  B batch   C embedding   D pooled feature
"""

from collections.abc import Callable
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from captioner.errors import ModelError

Projection = Callable[[Tensor], Tensor]
"""From pooled features image_BD to embeddings image_BC."""


def take_projection(visual: Any, name: str) -> tuple[Projection, bool]:
    """Take the projection off `visual`, which from now on gives its pooled features.

    Returns it, and whether it is linear without bias, so that a feature's length does not matter
    to the direction of what becomes of it. Raises ModelError for a tower that has no such point.
    """
    if isinstance(visual, VisionTransformer):
        return _of_transformer(visual)
    if isinstance(visual, ModifiedResNet):
        return _of_resnet(visual)
    if isinstance(visual, TimmModel) and not hasattr(visual.head, "pool"):
        head, visual.head = visual.head, nn.Identity()
        biased = any(name.endswith("bias") for name, _ in head.named_parameters())
        return head, not biased and not hasattr(head, "mlp")
    raise ModelError(f"The encoder {name!r} has no pooled feature; use the projected one.")


def _of_transformer(visual: VisionTransformer) -> tuple[Projection, bool]:
    weight_DC = visual.proj
    visual.proj = None
    if weight_DC is None:
        return _same, True
    return lambda image_BD: image_BD @ weight_DC, True


def _of_resnet(visual: ModifiedResNet) -> tuple[Projection, bool]:
    """A ResNet's attention pool ends in its projection: put the identity in its place."""
    linear = visual.attnpool.c_proj
    width = linear.in_features
    same = nn.Linear(width, width, device=linear.weight.device, dtype=linear.weight.dtype)
    with torch.no_grad():
        same.weight.copy_(torch.eye(width))
        same.bias.zero_()
    visual.attnpool.c_proj = same
    return linear, False


def _same(image_BD: Tensor) -> Tensor:
    return image_BD
