"""Bridges from an image embedding to a prefix the language model can read, by kind.

Shapes:  B batch   C image embedding   P prefix tokens   D token embedding
"""

from torch import nn

from captioner.configs import MapperConfig
from captioner.errors import ModelError
from captioner.mappers.encoder import EncoderMapper
from captioner.mappers.mlp import MLPMapper
from captioner.mappers.standardise import Standardise
from captioner.mappers.transformer import TransformerMapper

__all__ = ["EncoderMapper", "MLPMapper", "Standardise", "TransformerMapper", "build_mapper"]

MAPPERS: dict[str, type[nn.Module]] = {
    "mlp": MLPMapper,
    "transformer": TransformerMapper,
    "encoder": EncoderMapper,
}


def build_mapper(config: MapperConfig) -> nn.Module:
    """A fresh mapper of `config.kind`; raises ModelError for one that is not known."""
    if config.kind not in MAPPERS:
        known = ", ".join(sorted(MAPPERS))
        raise ModelError(f"The mapper {config.kind!r} is not known; use one of: {known}.")
    return MAPPERS[config.kind](config)
