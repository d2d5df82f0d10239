"""CLIPxGPT's mapper: a stack of Transformer encoder layers over the embedding itself.

Shapes:  B batch   C image embedding   P prefix tokens   D token embedding
"""

from torch import Tensor, nn

from captioner.configs import MapperConfig


class EncoderMapper(nn.Module):
    """Map an image to a prefix with post-norm encoder layers and one linear layer: BC -> BPD.

    The mapper of jmisilo/clip-gpt-captioning; `input_projection` is the linear layer that its
    fork ronald976/clip-gpt-captioning puts first where C is not D.
    """

    def __init__(self, config: MapperConfig) -> None:
        super().__init__()
        self.config = config
        width = config.token_dim
        self.across_batch = False
        """Let the images of one batch attend to each other, as the original does in training."""
        self.input = nn.Linear(config.image_dim, width) if config.input_projection else None
        layer = nn.TransformerEncoderLayer(
            width, config.heads, config.feedforward * width, config.dropout, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.output = nn.Linear(width, config.prefix_tokens * width)

    def begin_as_original(self) -> None:
        """Draw the weights as the original does: so large that little of the image comes through.

        At toy width such a mapper learns to ignore the image; torch's own draw does not.
        """
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
                nn.init.zeros_(part.bias)

    def forward(self, image_BC: Tensor) -> Tensor:
        """The prefix of each image: prefix_BPD; an image attends to itself alone."""
        x_BD = image_BC if self.input is None else self.input(image_BC)
        alone = 0 if self.across_batch else 1
        x_BD = self.encoder(x_BD.unsqueeze(alone)).squeeze(alone)
        flat_BF: Tensor = self.output(x_BD)  # F = P * D
        return flat_BF.view(-1, self.config.prefix_tokens, self.config.token_dim)
