"""The published caption models by name: which encoder, mapper and language model each joins.

Named data without weights; `recipes` says how each is trained, and its weights are trained or
imported. Facts are from the public code of each project, which is named as its source.
"""

import difflib
from dataclasses import dataclass
from typing import Any

from captioner.errors import ModelError
from captioner.named_decodings import NAMED

CLIPCAP = "rmokady/CLIP_prefix_caption, arXiv 2111.09734"
CLIPXGPT = "jmisilo/clip-gpt-captioning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A whole combination of encoder, mapper, language model and decoding."""

    name: str
    """What `nightcap models` and recipes call it."""
    about: str
    """One line for a list of models."""
    source: str
    """Where its facts were read."""
    encoder: str
    """The encoder as `load_encoder` takes it."""
    feature: str = "projected"
    """projected or pooled."""
    normalized: bool = False
    """Whether embeddings have length 1."""
    image_dim: int = 512
    """Width of the embedding (C), for counting parameters without the encoder."""
    mapper: str = "mlp"
    """mlp, transformer or encoder."""
    prefix_tokens: int = 10
    """Tokens that stand for the image (P)."""
    clip_length: int = 10
    """Tokens the image becomes inside a transformer mapper (K)."""
    layers: int = 8
    """Layers of a transformer or encoder mapper."""
    heads: int = 8
    """Attention heads of its layers."""
    dropout: float = 0.0
    """Of an encoder mapper, while training."""
    language: str = "gpt2"
    """The language model as `load_pretrained` takes it."""
    opening: str = "prefix"
    """prefix, or bos for a beginning token before it."""
    decoding: str = "greedy"
    """How captions are written unless the caller says otherwise."""
    max_tokens: int = 67
    """Tokens of a caption at most."""

    def mapper_settings(self, image_dim: int, token_dim: int) -> dict[str, Any]:
        """The mapper's configuration for embeddings and tokens of these widths."""
        return {
            "kind": self.mapper,
            "image_dim": image_dim,
            "token_dim": token_dim,
            "prefix_tokens": self.prefix_tokens,
            "clip_length": self.clip_length,
            "layers": self.layers,
            "heads": self.heads,
            "feedforward": 4 if self.mapper == "encoder" else 2,
            "dropout": self.dropout,
            "input_projection": self.mapper == "encoder" and image_dim != token_dim,
        }

    def decoding_settings(self, stop_ids: tuple[int, ...], max_tokens: int) -> dict[str, Any]:
        """The decoding's settings, as JSON has them."""
        ends = {"max_tokens": max_tokens, "stop_ids": list(stop_ids)}
        extra = {"top_k": 3} if self.decoding == "top-k" else {}
        return {**ends, **NAMED[self.decoding], **extra}


ARCHITECTURES = {
    one.name: one
    for one in (
        Architecture(
            name="clipcap-coco",
            about="ClipCap: MLP and a fine-tuned GPT-2",
            source=CLIPCAP,
            encoder="ViT-B-32/openai",
            decoding="beam",
        ),
        Architecture(
            name="clipcap-transformer-coco",
            about="ClipCap: an 8-layer Transformer before a frozen GPT-2",
            source=CLIPCAP,
            encoder="RN50x4/openai",
            normalized=True,
            image_dim=640,
            mapper="transformer",
            prefix_tokens=40,
            clip_length=40,
            decoding="beam",
        ),
        Architecture(
            name="clipcap-conceptual",
            about="ClipCap's MLP for Conceptual Captions, drawn among the 3 likeliest tokens",
            source="Saad1926Q/vlm-fun, image-captioning_clip",
            encoder="ViT-B-32/openai",
            decoding="top-k",
            max_tokens=64,
        ),
        Architecture(
            name="clipxgpt-small",
            about="CLIPxGPT: 6 encoder layers before GPT-2, its ends trained",
            source=CLIPXGPT,
            encoder="ViT-B-32/openai",
            feature="pooled",
            image_dim=768,
            mapper="encoder",
            prefix_tokens=4,
            layers=6,
            heads=16,
            dropout=0.1,
            opening="bos",
            max_tokens=40,
        ),
        Architecture(
            name="clipxgpt-large",
            about="CLIPxGPT: 5 encoder layers before GPT-2 medium",
            source=CLIPXGPT,
            encoder="ViT-L-14/openai",
            feature="pooled",
            image_dim=1024,
            mapper="encoder",
            prefix_tokens=4,
            layers=5,
            heads=16,
            dropout=0.08,
            language="gpt2-medium",
            opening="bos",
            max_tokens=40,
        ),
        Architecture(
            name="clipxgpt-giant",
            about="CLIPxGPT's fork: ViT-g-14, a linear layer, 5 encoder layers, GPT-2 xl",
            source="ronald976/clip-gpt-captioning",
            encoder="ViT-g-14/laion2b_s12b_b42k",
            feature="pooled",
            image_dim=1408,
            mapper="encoder",
            prefix_tokens=4,
            layers=5,
            heads=16,
            dropout=0.08,
            language="gpt2-xl",
            opening="bos",
            max_tokens=40,
        ),
    )
}


def find_architecture(name: str) -> Architecture:
    """The architecture called `name`; raises ModelError naming what comes near."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    near = difflib.get_close_matches(name, ARCHITECTURES, n=2, cutoff=0.4)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    known = ", ".join(ARCHITECTURES)
    raise ModelError(f"There is no architecture {name!r}; there are {known}.{meant}")
