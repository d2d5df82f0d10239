"""ClipCap's small mapper: one hidden layer.

Shapes:  B batch   C image embedding   P prefix tokens   D token embedding
"""

from torch import Tensor, nn

from captioner.configs import MapperConfig


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
