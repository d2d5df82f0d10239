"""How many parameters an architecture has: counted on the meta device, with nothing downloaded."""

import copy
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config

from captioner.architectures import Architecture
from captioner.configs import MapperConfig
from captioner.errors import ModelError
from captioner.mappers import build_mapper

GPT2_SIZES = {
    "distilgpt2": (768, 6, 12),
    "gpt2": (768, 12, 12),
    "gpt2-medium": (1024, 24, 16),
    "gpt2-large": (1280, 36, 20),
    "gpt2-xl": (1600, 48, 25),
}
"""Width, layers and heads of the published GPT-2 models."""
_MODELS: Any = AutoModelForCausalLM  # transformers' annotations of it are wrong


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of an architecture's parts."""

    tower: int
    """The encoder's image tower, which is never trained."""
    mapper: int
    language: int

    @property
    def whole(self) -> int:
        """All of them."""
        return self.tower + self.mapper + self.language


def count_parameters(design: Architecture) -> Parameters:
    """The parameters of `design`; raises ModelError for a language model of unknown size."""
    if design.language not in GPT2_SIZES:
        raise ModelError(f"The size of the language model {design.language!r} is not known here.")
    width, layers, heads = GPT2_SIZES[design.language]
    with torch.device("meta"):
        config = GPT2Config(n_embd=width, n_layer=layers, n_head=heads)
        language = _count(_MODELS.from_config(config))
        settings = design.mapper_settings(design.image_dim, width)
        mapper = _count(build_mapper(MapperConfig(**settings)))
        tower = _count(_tower(design.encoder))
    return Parameters(tower, mapper, language)


def _tower(encoder: str) -> nn.Module:
    name, _, tag = encoder.partition("/")
    config = copy.deepcopy(open_clip.get_model_config(name))
    if config is None:
        raise ModelError(f"open_clip knows no model {name!r}.")
    config.pop("custom_text", None)
    model: Any = open_clip.CLIP(**config, quick_gelu=tag == "openai")
    tower: nn.Module = model.visual
    return tower


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
