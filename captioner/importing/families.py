"""The public families of checkpoints: how each is told, named, shaped, and made to write.

Facts of rmokady/CLIP_prefix_caption (ClipCap), Saad1926Q/vlm-fun and
jmisilo/clip-gpt-captioning (CLIPxGPT) with its fork ronald976/clip-gpt-captioning.

Shapes:  C image embedding   P prefix tokens   D token embedding   K image tokens
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from captioner.configs import MapperConfig, Wording
from captioner.decoding import Beam, Greedy
from captioner.errors import ModelError

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One code base's checkpoints."""

    name: str
    mark: str
    """What a key begins with in these checkpoints and in no others."""
    language: str
    """What stands before the language model's own keys."""
    shape: Callable[[Tensors, int], MapperConfig]
    """The mapper's shape, from its tensors and D."""
    keys: tuple[tuple[str, str], ...]
    """Parts of our mapper's keys, and what they are called here."""
    decoding: Beam | Greedy
    """How this code base writes; the stop token's id is put in on import."""
    stop: str = ""
    """The text whose token ends a caption; empty for the language model's end token."""
    wording: Wording = field(default_factory=Wording)
    opening: str = "prefix"
    feature: str = "projected"
    normalized: bool = False
    """Whether the published checkpoints were run on embeddings of length 1."""
    mapper_alone: bool = False
    """Whether a file may lack the language model, because that was never trained."""
    encoders: Mapping[int, str] = field(default_factory=dict)
    """By C, the encoder of the published checkpoints: a suggestion, never a guess."""


def family_of(tensors: Tensors) -> Family:
    """The family that the keys tell; raises ModelError, showing some keys, if none does."""
    for family in FAMILIES:
        if any(key.startswith(family.mark) for key in tensors):
            return family
    known = ", ".join(family.name for family in FAMILIES)
    some = ", ".join(repr(key) for key in list(tensors)[:3])
    raise ModelError(f"The checkpoint is of no known family ({known}): it holds {some}.")


def theirs(family: Family, key: str, tensors: Tensors) -> str:
    """What our mapper's `key` is called in a checkpoint of `family`."""
    for ours, name in family.keys:
        key = key.replace(ours, name, 1)
    return key.replace(_INPUT, f"{input_layer(tensors)}.", 1)


def input_layer(tensors: Tensors) -> str:
    """Name of the one linear layer under `mp.` that CLIPxGPT itself has not; empty if none.

    The fork with ViT-g-14 puts a linear layer before the stack, but the code that names it was
    never published: any name will do, as long as there is one weight [D, C] and one bias alone.
    """
    known = ("mp.transformer_encoder.", "mp.mapper.")
    extra = {key for key in tensors if key.startswith("mp.") and not key.startswith(known)}
    stems = {key.rpartition(".")[0] for key in extra}
    stem = next(iter(stems), "")
    alone = len(stems) == 1 and extra == {f"{stem}.weight", f"{stem}.bias"}
    return stem if alone and tensors[f"{stem}.weight"].ndim == 2 else ""


def _clipcap_mlp(tensors: Tensors, width: int) -> MapperConfig:
    return _mlp(tensors, width, ("clip_project.model.0.weight", "clip_project.model.2.weight"))


def _reimplemented(tensors: Tensors, width: int) -> MapperConfig:
    return _mlp(tensors, width, ("mapping.proj1.weight", "mapping.proj2.weight"))


def _mlp(tensors: Tensors, width: int, keys: tuple[str, str]) -> MapperConfig:
    hidden, image_dim = _matrix(tensors, keys[0])
    flat, _ = _matrix(tensors, keys[1])
    return MapperConfig(
        kind="mlp",
        image_dim=image_dim,
        token_dim=width,
        prefix_tokens=_times(flat, width, keys[1]),
        hidden_dim=0 if hidden == flat // 2 else hidden,
    )


def _clipcap_transformer(tensors: Tensors, width: int) -> MapperConfig:
    prefix_tokens, token_dim = _matrix(tensors, "clip_project.prefix_const")
    if token_dim != width:
        raise ModelError(
            f"The mapper writes tokens of width {token_dim}, but the language model reads "
            f"{width}: give the right one by --lm."
        )
    rows, image_dim = _matrix(tensors, "clip_project.linear.weight")
    hidden, _ = _matrix(tensors, "clip_project.transformer.layers.0.mlp.fc1.weight")
    return MapperConfig(
        kind="transformer",
        image_dim=image_dim,
        token_dim=width,
        prefix_tokens=prefix_tokens,
        clip_length=_times(rows, width, "clip_project.linear.weight"),
        layers=count_layers(tensors, "clip_project.transformer.layers."),
        heads=8,  # of every published one; no shape tells
        feedforward=_times(hidden, width, "clip_project.transformer.layers.0.mlp.fc1.weight"),
    )


def _clipxgpt(tensors: Tensors, width: int) -> MapperConfig:
    rows, inner = _matrix(tensors, "mp.mapper.weight")
    if inner != width:
        raise ModelError(
            f"The mapper's stack has width {inner}, but the language model reads {width}: "
            "give the right one by --lm."
        )
    stack = "mp.transformer_encoder.layers."
    hidden, _ = _matrix(tensors, f"{stack}0.linear1.weight")
    first = input_layer(tensors)
    layers = count_layers(tensors, stack)
    return MapperConfig(
        kind="encoder",
        image_dim=_matrix(tensors, f"{first}.weight")[1] if first else inner,
        token_dim=width,
        prefix_tokens=_times(rows, width, "mp.mapper.weight"),
        layers=layers,
        heads=16,  # of every published one; no shape tells
        feedforward=_times(hidden, width, f"{stack}0.linear1.weight"),
        dropout=0.1 if layers == 6 else 0.08,  # the small one was trained with 0.1
        input_projection=bool(first),
    )


def count_layers(tensors: Tensors, stem: str) -> int:
    """How many numbered layers follow `stem` in the keys."""
    numbered = re.compile(re.escape(stem) + r"(\d+)\.")
    return 1 + max((int(m[1]) for key in tensors if (m := numbered.match(key))), default=-1)


def _matrix(tensors: Tensors, key: str) -> tuple[int, int]:
    if key not in tensors:
        raise ModelError(f"The checkpoint lacks {key!r}.")
    shape = tuple(tensors[key].shape)
    if len(shape) != 2 or not all(shape):
        raise ModelError(f"The checkpoint's {key!r} has shape {shape}, not two dimensions.")
    return shape[0], shape[1]


def _times(whole: int, width: int, key: str) -> int:
    if whole % width:
        raise ModelError(
            f"{key!r} writes {whole} numbers, no multiple of the language model's width {width}: "
            "give the right one by --lm."
        )
    return whole // width


_INPUT = "input."
_CLIPCAP_BEAM = Beam(max_tokens=67, beams=5, mode="clipcap")
FAMILIES = (
    Family(
        name="clipcap-mlp",
        mark="clip_project.model.",
        language="gpt.",
        shape=_clipcap_mlp,
        keys=(("layers.", "clip_project.model."),),
        decoding=_CLIPCAP_BEAM,
        stop=".",
        wording=Wording(keep_stop=True),
        mapper_alone=True,
        encoders={512: "ViT-B-32/openai", 640: "RN50x4/openai"},
    ),
    Family(
        name="clipcap-transformer",
        mark="clip_project.",
        language="gpt.",
        shape=_clipcap_transformer,
        keys=(
            ("linear.", "clip_project.linear."),
            ("constant", "clip_project.prefix_const"),
            ("layers.", "clip_project.transformer.layers."),
            (".attention.queries.", ".attn.to_queries."),
            (".attention.keys_values.", ".attn.to_keys_values."),
            (".attention.project.", ".attn.project."),
            (".fc1.", ".mlp.fc1."),
            (".fc2.", ".mlp.fc2."),
        ),
        decoding=_CLIPCAP_BEAM,
        stop=".",
        wording=Wording(keep_stop=True),
        normalized=True,
        mapper_alone=True,
        encoders={512: "ViT-B-32/openai", 640: "RN50x4/openai"},
    ),
    Family(
        name="clipcap-reimplemented",
        mark="mapping.proj",
        language="gpt.",
        shape=_reimplemented,
        keys=(("layers.0.", "mapping.proj1."), ("layers.2.", "mapping.proj2.")),
        decoding=Greedy(max_tokens=12),
        encoders={512: "ViT-B-32/openai"},
    ),
    Family(
        name="clipxgpt",
        mark="mp.transformer_encoder.",
        language="td.model.",
        shape=_clipxgpt,
        keys=(("encoder.", "mp.transformer_encoder."), ("output.", "mp.mapper.")),
        decoding=Greedy(max_tokens=40),
        wording=Wording(capital=True, drop_cut=True),
        opening="clipxgpt",
        feature="pooled",
        encoders={
            768: "ViT-B-32/openai",
            1024: "ViT-L-14/openai",
            1408: "ViT-g-14/laion2b_s12b_b42k",
        },
    ),
)
