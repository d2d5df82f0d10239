"""What a model directory's config.json says, readable without torch."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from captioner.decoding import Decoding, Greedy, decoding_from_json
from captioner.errors import ModelError

FORMAT = 1
"""Version of the model directory's layout; a reader refuses any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """Which image embeddings a model reads: a consumer refuses any that differ."""

    name: str
    """The encoder as `load_encoder` takes it, such as `nano` or `ViT-B-32/openai`."""
    dim: int
    """Width of the embedding (C)."""
    feature: str = "projected"
    """`projected` is the embedding shared with texts, `pooled` the tower's before that."""
    normalized: bool = True
    """Whether embeddings have length 1."""

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ModelError(f"The encoder's dim must be at least 1, got {self.dim}.")
        if self.feature not in ("projected", "pooled"):
            raise ModelError(f"The feature must be projected or pooled, got {self.feature!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MapperConfig:
    """The shape of the bridge from an image embedding to a prefix."""

    kind: str = "mlp"
    """The architecture; `mlp` has one hidden layer."""
    image_dim: int = 512
    """Width of the image embedding (C)."""
    token_dim: int = 768
    """Width of one language-model token embedding (D)."""
    prefix_tokens: int = 10
    """Tokens that stand for the image (P). More describe better and decode slower."""
    hidden_dim: int = 0
    """Width of the hidden layer; 0 means P*D/2 as in ClipCap."""

    def __post_init__(self) -> None:
        for name in ("image_dim", "token_dim", "prefix_tokens"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.hidden_dim < 0:
            raise ModelError(f"hidden_dim must be 0 or more, got {self.hidden_dim}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """All of a caption model that is not weights."""

    encoder: EncoderSpec
    """The embeddings the model was trained on."""
    mapper: MapperConfig
    """The shape of its mapper."""
    standardise: bool = False
    """Whether embeddings are brought to mean 0 and deviation 1 before the mapper."""
    decoding: Decoding = field(default_factory=Greedy)
    """How captions are written when the caller does not say."""

    def __post_init__(self) -> None:
        if self.mapper.image_dim != self.encoder.dim:
            raise ModelError(
                f"The mapper reads embeddings of width {self.mapper.image_dim}, but the encoder "
                f"{self.encoder.name!r} gives {self.encoder.dim}."
            )

    def to_json(self) -> dict[str, Any]:
        """The content of config.json."""
        return {
            "format": FORMAT,
            "encoder": asdict(self.encoder),
            "mapper": asdict(self.mapper),
            "standardise": self.standardise,
            "decoding": self.decoding.to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; raises ModelError for missing, odd or newer content."""
        if content.get("format") != FORMAT:
            raise ModelError(
                f"The model has format {content.get('format')!r}; this version reads {FORMAT}."
            )
        try:
            return cls(
                encoder=EncoderSpec(**content["encoder"]),
                mapper=MapperConfig(**content["mapper"]),
                standardise=bool(content["standardise"]),
                decoding=decoding_from_json(content["decoding"]),
            )
        except (KeyError, TypeError) as error:
            raise ModelError(f"The model's config.json is not valid: {error}.") from error


def read_config(folder: Path) -> dict[str, Any]:
    """The JSON object in `folder`/config.json; raises ModelError if there is none."""
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"There is no config.json in {str(folder)!r}.") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(folder / 'config.json')!r} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{str(folder / 'config.json')!r} holds no JSON object.")
    return content
