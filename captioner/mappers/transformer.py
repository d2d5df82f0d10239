"""ClipCap's large mapper: a Transformer over the image's tokens and a learnt constant.

Shapes:  B batch   C image embedding   K image tokens (clip_length)   P prefix tokens
         S = K + P   D token embedding   H heads   E = D / H
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from captioner.configs import MapperConfig


class TransformerMapper(nn.Module):
    """Map an image to what the learnt constant becomes beside it: image_BC -> prefix_BPD.

    The mapper of ClipCap (arXiv 2111.09734, section 3.3): the embedding becomes K tokens, P
    learnt ones follow them, and the last P outputs are the prefix. Layers are pre-norm, and no
    norm follows the last.
    """

    def __init__(self, config: MapperConfig) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(config.image_dim, config.clip_length * config.token_dim)
        self.constant = nn.Parameter(torch.randn(config.prefix_tokens, config.token_dim))
        self.layers = nn.ModuleList(PreNormLayer(config) for _ in range(config.layers))

    def forward(self, image_BC: Tensor) -> Tensor:
        """The prefix of each image: prefix_BPD."""
        config = self.config
        image_BKD = self.linear(image_BC).view(-1, config.clip_length, config.token_dim)
        constant_BPD = self.constant.expand(len(image_BKD), -1, -1)
        x_BSD = torch.cat([image_BKD, constant_BPD], dim=1)
        for layer in self.layers:
            x_BSD = layer(x_BSD)
        return x_BSD[:, config.clip_length :]


class PreNormLayer(nn.Module):
    """Self-attention, then two linear layers with a relu; each reads a normalised copy."""

    def __init__(self, config: MapperConfig) -> None:
        super().__init__()
        width, hidden = config.token_dim, config.feedforward * config.token_dim
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, config.heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """The sequence after this layer, in the same shape."""
        x_BSD = x_BSD + self.attention(self.norm1(x_BSD))
        hidden_BSF = functional.relu(self.fc1(self.norm2(x_BSD)))
        added_BSD: Tensor = self.fc2(hidden_BSF)
        return x_BSD + added_BSD


class Attention(nn.Module):
    """Attention of a sequence to all of itself; only the last projection has a bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries = nn.Linear(width, width, bias=False)
        self.keys_values = nn.Linear(width, 2 * width, bias=False)
        self.project = nn.Linear(width, width)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """What each place gathers, in the same shape."""
        q_BHSE = _split(self.queries(x_BSD), self.heads)
        keys_BSD, values_BSD = self.keys_values(x_BSD).chunk(2, dim=-1)
        k_BHSE, v_BHSE = _split(keys_BSD, self.heads), _split(values_BSD, self.heads)
        gathered_BHSE = functional.scaled_dot_product_attention(q_BHSE, k_BHSE, v_BHSE)
        gathered_BSD: Tensor = self.project(gathered_BHSE.transpose(1, 2).flatten(2))
        return gathered_BSD


def _split(x_BSD: Tensor, heads: int) -> Tensor:
    batch, length, width = x_BSD.shape
    return x_BSD.view(batch, length, heads, width // heads).transpose(1, 2)
