"""Sorts a checkpoint's tensors: each goes to one place, is set aside by name, or is an error.

Shapes:  D token embedding   V vocabulary   T positions
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.errors import ModelError
from captioner.importing.checkpoints import Checkpoint
from captioner.importing.families import Family, count_layers

HEAD, TOKENS, POSITIONS = "lm_head.weight", "transformer.wte.weight", "transformer.wpe.weight"
"""What GPT-2 in transformers calls its output layer and its two tables."""
_FROZEN_ENCODER = "ie."
_MASKS = re.compile(r"transformer\.h\.\d+\.attn\.(masked_)?bias")
"""Buffers of old transformers versions: constants that no later version reads."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """What a checkpoint holds for a model, and what it holds besides."""

    tensors: dict[str, Tensor]
    """Everything that must find its place."""
    aside: dict[str, int]
    """Number of tensors set aside, by what they are."""
    left_out: tuple[str, ...]
    """Entries of the file that hold no weights."""


@dataclass(frozen=True, slots=True)
class LanguageShape:
    """Size of the GPT-2 in a checkpoint."""

    width: int
    layers: int
    vocabulary: int
    positions: int


def sort_out(checkpoint: Checkpoint, family: Family) -> Sorted:
    """The tensors without dead buffers, the frozen image encoder and the tied output layer.

    Raises ModelError where the output layer is not the token table, which GPT-2 ties.
    """
    aside = {"causal mask buffers": 0, "frozen image encoder": 0, "tied output layer": 0}
    kept = {}
    for key, value in checkpoint.tensors.items():
        inner = key.removeprefix(family.language)
        if inner != key and _MASKS.fullmatch(inner):
            aside["causal mask buffers"] += 1
        elif key.startswith(_FROZEN_ENCODER):
            aside["frozen image encoder"] += 1
        elif inner != key and inner == HEAD:
            _check_tied(key, value, checkpoint.tensors.get(family.language + TOKENS))
            aside["tied output layer"] += 1
        else:
            kept[key] = value
    found = {name: number for name, number in aside.items() if number}
    return Sorted(kept, found, checkpoint.left_out)


def language_shape(tensors: Mapping[str, Tensor], family: Family) -> LanguageShape | None:
    """The size of the language model in a checkpoint; None where it may lack one and does."""
    prefix = family.language
    if family.mapper_alone and not any(key.startswith(prefix) for key in tensors):
        return None
    tables = [tensors.get(prefix + name) for name in (TOKENS, POSITIONS)]
    for name, table in zip((TOKENS, POSITIONS), tables, strict=True):
        if table is None or table.ndim != 2:
            raise ModelError(f"The checkpoint lacks the table {prefix + name!r}.")
    token_VD, position_TD = (table for table in tables if table is not None)
    return LanguageShape(
        width=token_VD.shape[1],
        layers=count_layers(tensors, f"{prefix}transformer.h."),
        vocabulary=token_VD.shape[0],
        positions=position_TD.shape[0],
    )


def check_complete(tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ModelError, naming tensors, unless `tensors` are those wanted, each in its shape."""
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise ModelError(f"The checkpoint lacks {_named(missing)}.")
    if extra := sorted(tensors.keys() - wanted.keys()):
        raise ModelError(f"The checkpoint holds {_named(extra)}, which no part of a model reads.")
    for key, shape in wanted.items():
        found = tuple(tensors[key].shape)
        if found != shape:
            raise ModelError(f"The checkpoint's {key!r} has shape {found}, not {shape}.")
        if not tensors[key].is_floating_point():
            raise ModelError(f"The checkpoint's {key!r} holds {tensors[key].dtype}, not floats.")


def precision(tensors: Mapping[str, Tensor]) -> str:
    """The dtype in which nothing of `tensors` is lost and nothing is gained."""
    kinds = {value.dtype for value in tensors.values()}
    half = {torch.float16: "float16", torch.bfloat16: "bfloat16"}
    return half.get(kinds.pop(), "float32") if len(kinds) == 1 else "float32"


def _check_tied(key: str, head: Tensor, token_VD: Tensor | None) -> None:
    if token_VD is not None and not torch.equal(head, token_VD):
        raise ModelError(
            f"The checkpoint's {key!r} differs from its token embeddings, but GPT-2 has one "
            "table for both."
        )


def _named(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
