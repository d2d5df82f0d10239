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
_SHAPE = ("clip_length", "layers", "heads", "feedforward")
_READ = {
    "mlp": ("hidden_dim",),
    "transformer": _SHAPE,
    "encoder": ("layers", "heads", "feedforward", "dropout", "input_projection"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """Which image embeddings a model reads: a consumer refuses any that differ."""

    name: str
    """The encoder as `load_encoder` takes it, such as `nano` or `ViT-B-32/openai`; empty where
    nobody said, so that only stored embeddings can be captioned."""
    dim: int
    """Width of the embedding (C)."""
    feature: str = "projected"
    """`projected` is the embedding shared with texts, `pooled` the tower's before that."""
    normalized: bool = True
    """Whether embeddings have length 1."""

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ModelError(f"The encoder's dim must be at least 1, got {self.dim}.")
        _check_feature(self.feature)

    @property
    def form(self) -> "Form":
        """In which form the embeddings are."""
        return Form(self.feature, self.normalized)


@dataclass(frozen=True, slots=True)
class Form:
    """In which form an encoder gives its embeddings."""

    feature: str = "projected"
    """`projected` is the embedding shared with texts, `pooled` the tower's before that."""
    normalized: bool | None = None
    """Whether embeddings have length 1; None is the encoder's own way."""

    def __post_init__(self) -> None:
        _check_feature(self.feature)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapperConfig:
    """The shape of the bridge from an image embedding to a prefix."""

    kind: str = "mlp"
    """`mlp` has one hidden layer, `transformer` is ClipCap's large one, `encoder` CLIPxGPT's."""
    image_dim: int = 512
    """Width of the image embedding (C)."""
    token_dim: int = 768
    """Width of one language-model token embedding (D)."""
    prefix_tokens: int = 10
    """Tokens that stand for the image (P). More describe better and decode slower."""
    hidden_dim: int = 0
    """Width of the MLP's hidden layer; 0 means P*D/2 as in ClipCap."""
    clip_length: int = 10
    """Tokens the image becomes inside a `transformer` (K)."""
    layers: int = 8
    """Layers of a `transformer` or `encoder`."""
    heads: int = 8
    """Attention heads of a `transformer` or `encoder`; they divide D."""
    feedforward: int = 2
    """Width of the layers' hidden part, in multiples of D: 2 in ClipCap, 4 in CLIPxGPT."""
    dropout: float = 0.0
    """Part of an `encoder` that is dropped while training."""
    input_projection: bool = False
    """Whether an `encoder` brings the embedding to width D first; it must where C is not D."""

    def __post_init__(self) -> None:
        for name in ("image_dim", "token_dim", "prefix_tokens", *_SHAPE):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.hidden_dim < 0:
            raise ModelError(f"hidden_dim must be 0 or more, got {self.hidden_dim}.")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"dropout must be from 0 to below 1, got {self.dropout}.")
        if self.kind in ("transformer", "encoder") and self.token_dim % self.heads:
            raise ModelError(
                f"{self.heads} heads do not divide token embeddings of width {self.token_dim}."
            )
        straight = self.kind == "encoder" and not self.input_projection
        if straight and self.image_dim != self.token_dim:
            raise ModelError(
                f"An encoder mapper without input_projection needs embeddings as wide as tokens, "
                f"but they are {self.image_dim} and {self.token_dim} wide."
            )

    def to_json(self) -> dict[str, Any]:
        """What config.json says of the mapper: the settings that its kind reads."""
        unread = {name for kind, names in _READ.items() if kind != self.kind for name in names}
        unread -= set(_READ.get(self.kind, ()))
        return {name: value for name, value in asdict(self).items() if name not in unread}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What the language model reads before the caption."""

    kind: str = "prefix"
    """`prefix` alone, `bos`: a beginning token and then the prefix, or `clipxgpt`: the same with
    that code's repeated addition of position embeddings (see `captioner.openings`)."""
    bos_id: int | None = None
    """The token that begins; None for `prefix`."""

    def __post_init__(self) -> None:
        if self.kind not in ("prefix", "bos", "clipxgpt"):
            raise ModelError(f"The opening must be prefix, bos or clipxgpt, got {self.kind!r}.")
        if (self.kind == "prefix") != (self.bos_id is None):
            raise ModelError(f"The opening {self.kind!r} does not go with bos_id {self.bos_id}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """How generated tokens become a caption's text."""

    keep_stop: bool = False
    """Whether the stop token is part of the text, as ClipCap's full stop is."""
    capital: bool = False
    """Whether the first letter is made a capital."""
    drop_cut: bool = False
    """Whether the last token of a caption that met no stop token is left out (CLIPxGPT)."""


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
    opening: Opening = Opening()
    """What the language model reads before the caption."""
    wording: Wording = Wording()
    """How tokens become text."""

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
            "mapper": self.mapper.to_json(),
            "standardise": self.standardise,
            "decoding": self.decoding.to_json(),
            "opening": asdict(self.opening),
            "wording": asdict(self.wording),
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
                opening=Opening(**content.get("opening", {})),
                wording=Wording(**content.get("wording", {})),
            )
        except (KeyError, TypeError) as error:
            raise ModelError(f"The model's config.json is not valid: {error}.") from error


def _check_feature(feature: str) -> None:
    if feature not in ("projected", "pooled"):
        raise ModelError(f"The feature must be projected or pooled, got {feature!r}.")


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
