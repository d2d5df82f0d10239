"""Puts a checkpoint's tensors where they belong: a mapper's state and a language model.

Shapes:  C image embedding   P prefix tokens   D token embedding
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captioner.configs import MapperConfig
from captioner.errors import ModelError
from captioner.importing.families import Family, theirs
from captioner.importing.languages import (
    Named,
    check_fits,
    filled,
    outline,
    published_name,
    read_named,
    with_own_weights,
)
from captioner.importing.weights import HEAD, Sorted, check_complete, language_shape, precision
from captioner.language import LanguageModel
from captioner.mappers import build_mapper

_Keys = dict[str, tuple[str, tuple[int, ...]]]
"""By our key, what the checkpoint calls it and the shape it must have."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """The parts of a caption model."""

    named: Named
    language: LanguageModel
    own_weights: bool
    """Whether the language model's weights came with its name, not from the checkpoint."""
    mapper: MapperConfig
    mapper_state: dict[str, Tensor]
    dtype: str
    """In which the weights are kept."""


def assemble(parts: Sorted, family: Family, lm: str, *, offline: bool) -> Assembled:
    """Give every tensor its place beside the language model called `lm`, empty for the usual one.

    Raises ModelError, naming tensors, where one is missing, left over, or of another shape.
    """
    tensors = parts.tensors
    held = language_shape(tensors, family)
    if held:
        named = read_named(lm or published_name(held), offline=offline)
        check_fits(held, named)
    elif lm:
        named = read_named(lm, offline=offline)
    else:
        raise ModelError(
            "The checkpoint holds a mapper alone: name the language model that it was trained "
            "with by --lm, such as --lm openai-community/gpt2."
        )
    config = family.shape(tensors, named.width)
    mapper_keys = _keys_of_mapper(config, family, tensors)
    network = outline(named)
    language_keys = _keys_of_language(network, family) if held else {}
    check_complete(tensors, dict([*mapper_keys.values(), *language_keys.values()]))
    state = {ours: tensors[name] for ours, (name, _) in language_keys.items()}
    language = filled(network, state, named) if held else with_own_weights(named, offline=offline)
    return Assembled(
        named=named,
        language=language,
        own_weights=held is None,
        mapper=config,
        mapper_state={ours: tensors[name] for ours, (name, _) in mapper_keys.items()},
        dtype=precision(tensors) if held else "float32",
    )


def _keys_of_mapper(config: MapperConfig, family: Family, tensors: Mapping[str, Tensor]) -> _Keys:
    with torch.device("meta"):
        state = build_mapper(config).state_dict()
    return {key: (theirs(family, key, tensors), tuple(value.shape)) for key, value in state.items()}


def _keys_of_language(network: Any, family: Family) -> _Keys:
    state = network.state_dict()
    return {
        key: (family.language + key, tuple(value.shape))
        for key, value in state.items()
        if key != HEAD
    }
