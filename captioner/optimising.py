"""AdamW whose state can be taken out and put back as named tensors."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from captioner.recipes import Recipe

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def build_optimiser(parameters: Sequence[Tensor], recipe: Recipe) -> torch.optim.AdamW:
    """AdamW that decays matrices alone."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)


def optimiser_state(
    optimiser: torch.optim.AdamW, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The moments and step counts of every parameter, by name."""
    return {
        f"optimiser.{moment}.{name}": optimiser.state[parameter][moment]
        for name, parameter in parameters.items()
        for moment in _MOMENTS
    }


def restore_state(
    optimiser: torch.optim.AdamW,
    parameters: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> None:
    """Put back what `optimiser_state` took out."""
    for name, parameter in parameters.items():
        optimiser.state[parameter] = {
            moment: tensors[f"optimiser.{moment}.{name}"].to(parameter.device)
            for moment in _MOMENTS
        }
