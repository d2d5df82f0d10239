"""Embeddings brought to one scale before a mapper reads them.

Shapes:  B batch   C image embedding
"""

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """Bring embeddings to mean 0 and deviation 1, by figures kept with the model: BC -> BC.

    A small tower's embeddings share a large common part and vary little around it; a mapper
    trained from scratch sees only the large part until that is taken away.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    def set_figures(self, mean_C: Tensor, deviation_C: Tensor) -> None:
        """Take the mean and deviation; a component that never varies keeps deviation 1."""
        still_C = deviation_C < 1e-6 * deviation_C.max().clamp_min(1e-12)
        self.mean.copy_(mean_C)
        self.deviation.copy_(torch.where(still_C, torch.ones_like(deviation_C), deviation_C))

    def forward(self, image_BC: Tensor) -> Tensor:
        """The standardised embeddings, in the same shape."""
        return (image_BC - self.mean) / self.deviation
