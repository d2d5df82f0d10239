"""The bridge from an image embedding to a prefix the language model can read.

Shapes:  B batch   C image embedding   P prefix tokens   D token embedding
"""

import torch
from torch import Tensor, nn

from captioner.configs import MapperConfig
from captioner.errors import ModelError


class MLPMapper(nn.Module):
    """Map an image to a prefix with one hidden layer: image_BC -> prefix_BPD.

    The mapper of ClipCap (arXiv 2111.09734, section 3.2), whose hidden layer is P*D/2 wide.
    """

    def __init__(self, config: MapperConfig) -> None:
        super().__init__()
        self.config = config
        flat = config.prefix_tokens * config.token_dim
        hidden = config.hidden_dim or flat // 2
        self.layers = nn.Sequential(
            nn.Linear(config.image_dim, hidden), nn.Tanh(), nn.Linear(hidden, flat)
        )

    def forward(self, image_BC: Tensor) -> Tensor:
        """The prefix of each image: prefix_BPD."""
        flat_BF: Tensor = self.layers(image_BC)  # F = P * D
        return flat_BF.view(-1, self.config.prefix_tokens, self.config.token_dim)


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


MAPPERS = {"mlp": MLPMapper}


def build_mapper(config: MapperConfig) -> nn.Module:
    """A fresh mapper of `config.kind`; raises ModelError for one that is not known."""
    if config.kind not in MAPPERS:
        known = ", ".join(sorted(MAPPERS))
        raise ModelError(f"The mapper {config.kind!r} is not known; use one of: {known}.")
    return MAPPERS[config.kind](config)
