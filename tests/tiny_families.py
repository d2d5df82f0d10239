"""The published captioners in small: their sizes and settings, with random weights in both forms.

A model of ours and the published file's weights are filled with the same numbers, by a table of
key names that is the tests' own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from plain_families import State, clipcap_mlp, clipcap_transformer, clipxgpt, lm, vlm_fun
from tiny_models import tiny_tokenizer
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from captioner.configs import EncoderSpec, MapperConfig, ModelConfig, Opening, Wording
from captioner.decoding import Greedy
from captioner.folder_encoder import END, START
from captioner.language import LanguageModel
from captioner.model import CaptionModel

WIDTH = 32
TOKENIZER = tiny_tokenizer()
VOCABULARY = TOKENIZER.get_vocab_size()
BOS_ID, END_ID = TOKENIZER.token_to_id(START), TOKENIZER.token_to_id(END)
FULL_STOP = TOKENIZER.token_to_id(".")
CLIPXGPT = {
    "mp.transformer_encoder.": "mapper.encoder.",
    "mp.mapper.": "mapper.output.",
    "mp.widen.": "mapper.input.",
    "td.model.": "language.network.",
}
OUR_KEYS = {
    "clip_project.model.": "mapper.layers.",
    "clip_project.linear.": "mapper.linear.",
    "clip_project.prefix_const": "mapper.constant",
    "clip_project.transformer.layers.": "mapper.layers.",
    ".attn.to_queries.": ".attention.queries.",
    ".attn.to_keys_values.": ".attention.keys_values.",
    ".attn.project.": ".attention.project.",
    ".mlp.fc": ".fc",
    "mapping.proj1.": "mapper.layers.0.",
    "mapping.proj2.": "mapper.layers.2.",
    "gpt.": "language.network.",
    **CLIPXGPT,
}


@dataclass(frozen=True)
class Family:
    """A published captioner in small: its sizes, and what it does in plain steps."""

    image_dim: int
    mapper: MapperConfig
    shapes: dict[str, tuple[int, ...]]
    """Of the mapper's published weights."""
    prefix: Callable[[State, Tensor], Tensor]
    stop_id: int
    max_tokens: int
    eagerness: float
    """How much is added to the stop token's logit, so that captions end at many lengths."""
    seed: int
    liveliness: float = 0.2
    """Deviation of the mapper's random weights."""
    opening: Opening = field(default_factory=Opening)
    wording: Wording = field(default_factory=Wording)
    feature: str = "projected"


def mlp(names: tuple[str, str]) -> dict[str, tuple[int, ...]]:
    first, second = names
    return {
        f"{first}.weight": (160, 16),
        f"{first}.bias": (160,),
        f"{second}.weight": (320, 160),
        f"{second}.bias": (320,),
    }


def transformer_shapes(image_dim: int, clip_length: int, prefix: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "clip_project.linear.weight": (clip_length * WIDTH, image_dim),
        "clip_project.linear.bias": (clip_length * WIDTH,),
        "clip_project.prefix_const": (prefix, WIDTH),
    }
    for layer in range(8):
        name = f"clip_project.transformer.layers.{layer}."
        for key in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            shapes[name + key] = (WIDTH,)
        shapes[name + "attn.to_queries.weight"] = (WIDTH, WIDTH)
        shapes[name + "attn.to_keys_values.weight"] = (2 * WIDTH, WIDTH)
        shapes |= _linear(name + "attn.project", WIDTH, WIDTH)
        shapes |= _linear(name + "mlp.fc1", WIDTH, 2 * WIDTH)
        shapes |= _linear(name + "mlp.fc2", 2 * WIDTH, WIDTH)
    return shapes


def clipxgpt_shapes(layers: int, image_dim: int) -> dict[str, tuple[int, ...]]:
    shapes = _linear("mp.mapper", WIDTH, 4 * WIDTH)
    if image_dim != WIDTH:
        shapes |= _linear("mp.widen", image_dim, WIDTH)
    for layer in range(layers):
        name = f"mp.transformer_encoder.layers.{layer}."
        for key in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            shapes[name + key] = (WIDTH,)
        shapes[name + "self_attn.in_proj_weight"] = (3 * WIDTH, WIDTH)
        shapes[name + "self_attn.in_proj_bias"] = (3 * WIDTH,)
        shapes |= _linear(name + "self_attn.out_proj", WIDTH, WIDTH)
        shapes |= _linear(name + "linear1", WIDTH, 4 * WIDTH)
        shapes |= _linear(name + "linear2", 4 * WIDTH, WIDTH)
    return shapes


def _linear(name: str, inside: int, outside: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outside, inside), f"{name}.bias": (outside,)}


def clipxgpt_family(layers: int, image_dim: int, *, eagerness: float, seed: int) -> Family:
    return Family(
        image_dim=image_dim,
        mapper=MapperConfig(
            kind="encoder",
            image_dim=image_dim,
            token_dim=WIDTH,
            prefix_tokens=4,
            layers=layers,
            heads=16,
            feedforward=4,
            dropout=0.1,
            input_projection=image_dim != WIDTH,
        ),
        shapes=clipxgpt_shapes(layers, image_dim),
        prefix=clipxgpt,
        stop_id=END_ID,
        max_tokens=12,
        eagerness=eagerness,
        seed=seed,
        opening=Opening(kind="clipxgpt", bos_id=BOS_ID),
        wording=Wording(capital=True, drop_cut=True),
        feature="pooled",
    )


FAMILIES = {
    "clipcap-mlp": Family(
        image_dim=16,
        mapper=MapperConfig(image_dim=16, token_dim=WIDTH, prefix_tokens=10),
        shapes=mlp(("clip_project.model.0", "clip_project.model.2")),
        prefix=clipcap_mlp,
        stop_id=FULL_STOP,
        max_tokens=12,
        eagerness=15.5,
        seed=2,
        wording=Wording(keep_stop=True),
    ),
    "clipcap-transformer": Family(
        image_dim=20,
        mapper=MapperConfig(
            kind="transformer", image_dim=20, token_dim=WIDTH, prefix_tokens=10, clip_length=12
        ),
        shapes=transformer_shapes(20, 12, 10),
        prefix=clipcap_transformer,
        stop_id=FULL_STOP,
        max_tokens=12,
        eagerness=11.2,
        seed=5,
        liveliness=0.15,
        wording=Wording(keep_stop=True),
    ),
    "vlm-fun": Family(
        image_dim=16,
        mapper=MapperConfig(image_dim=16, token_dim=WIDTH, prefix_tokens=10),
        shapes=mlp(("mapping.proj1", "mapping.proj2")),
        prefix=vlm_fun,
        stop_id=END_ID,
        max_tokens=12,
        eagerness=16.5,
        seed=8,
    ),
    "clipxgpt-s": clipxgpt_family(6, WIDTH, eagerness=17.0, seed=20),
    "clipxgpt-g": clipxgpt_family(5, 24, eagerness=17.0, seed=12),
}


def random_pair(family: Family) -> tuple[CaptionModel, State]:
    """Our model and the published form of it, with the same lively random weights."""
    config = ModelConfig(
        encoder=EncoderSpec(
            name="tiny", dim=family.image_dim, feature=family.feature, normalized=False
        ),
        mapper=family.mapper,
        decoding=Greedy(family.max_tokens, (family.stop_id,)),
        opening=family.opening,
        wording=family.wording,
    )
    gpt2_config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=40,
        n_embd=WIDTH,
        n_layer=2,
        n_head=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = CaptionModel(config, LanguageModel(GPT2LMHeadModel(gpt2_config), TOKENIZER))
    torch.manual_seed(family.seed)  # here, so that how a model begins does not matter
    prefix = "td.model." if family.opening.kind == "clipxgpt" else "gpt."
    state = {
        f"{prefix}{key}": torch.randn_like(value) * 0.3 + (1.0 if _is_scale(key) else 0.0)
        for key, value in model.language.network.state_dict().items()
        if key != "lm_head.weight"
    }
    for key, shape in family.shapes.items():
        state[key] = torch.randn(shape) * family.liveliness + (1.0 if _is_scale(key) else 0.0)
    wte, final = lm(state, "transformer.wte.weight"), lm(state, "transformer.ln_f.bias")
    lm(state, "transformer.ln_f.weight").mul_(4)  # far from even chances
    final += family.eagerness * wte[family.stop_id] / wte[family.stop_id].square().sum()
    fill(model, state)
    return model.eval(), state


def _is_scale(key: str) -> bool:
    return key.endswith(".weight") and ("norm" in key or "ln_" in key)


def fill(model: CaptionModel, state: State) -> None:
    """Give `model` the weights of a published file; not one may be missing or left over."""
    ours = {}
    for published, value in state.items():
        key = published
        for theirs, name in OUR_KEYS.items():
            if published.startswith(theirs) or (theirs[0] == "." and "clip_project" in published):
                key = key.replace(theirs, name)
        ours[key] = value
    ours["language.network.lm_head.weight"] = lm(state, "transformer.wte.weight")
    model.load_state_dict(ours)
