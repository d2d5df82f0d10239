"""Checkpoints of other projects, made here with random weights in each project's own key layout,
and what each project's mapper computes, in the fewest words."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from tiny_models import tiny_tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from captioner.folder_encoder import END

State = dict[str, Tensor]
C, D, P, K = 24, 32, 3, 5
"""Widths of the image embedding and of a token, lengths of the prefix and of the image in it."""
POSITIONS = 128


def language_config(**changes: int) -> GPT2Config:
    end = tiny_tokenizer().token_to_id(END)
    sizes = {"n_embd": D, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS} | changes
    return GPT2Config(
        vocab_size=tiny_tokenizer().get_vocab_size(), bos_token_id=end, eos_token_id=end, **sizes
    )


def language_network(seed: int = 0) -> GPT2LMHeadModel:
    """A lively one: captions differ from picture to picture."""
    torch.manual_seed(seed)
    network = GPT2LMHeadModel(language_config()).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(4.0)
    return network


def language_folder(folder: Path, *, weights: bool = False, seed: int = 0, **changes: int) -> Path:
    """Configuration and tokenizer as transformers lays them out, with weights on request."""
    folder.mkdir()
    language_config(**changes).save_pretrained(folder)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    marks = {"bos_token": END, "eos_token": END, "unk_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(marks))
    if weights:
        language_network(seed).save_pretrained(folder)
    return folder


def language_state(prefix: str, *, old: bool = False) -> State:
    """A GPT-2's weights under `prefix`; `old` adds the buffers of early transformers versions."""
    state = {prefix + key: value for key, value in language_network().state_dict().items()}
    if old:
        mask = torch.ones(1, 1, POSITIONS, POSITIONS, dtype=torch.uint8).tril()
        for layer in range(2):
            state[f"{prefix}transformer.h.{layer}.attn.bias"] = mask
            state[f"{prefix}transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return state


def linear(key: str, out: int, into: int, *, bias: bool = True) -> State:
    state = {f"{key}.weight": torch.randn(out, into) / into**0.5}
    return state | ({f"{key}.bias": torch.randn(out) / 4} if bias else {})


def norm(key: str, width: int = D) -> State:
    return {f"{key}.weight": 1 + torch.randn(width) / 4, f"{key}.bias": torch.randn(width) / 4}


def clipcap_mlp(dim: int = C) -> State:
    mapper = linear("clip_project.model.0", P * D // 2, dim)
    return mapper | linear("clip_project.model.2", P * D, P * D // 2)


def plain_clipcap_mlp(state: State, image_BC: Tensor) -> Tensor:
    keys = ("clip_project.model.0", "clip_project.model.2")
    return plain_mlp(state, image_BC, keys)


def reimplemented(dim: int = C) -> State:
    return linear("mapping.proj1", P * D // 2, dim) | linear("mapping.proj2", P * D, P * D // 2)


def plain_reimplemented(state: State, image_BC: Tensor) -> Tensor:
    return plain_mlp(state, image_BC, ("mapping.proj1", "mapping.proj2"))


def plain_mlp(state: State, image_BC: Tensor, keys: tuple[str, str]) -> Tensor:
    hidden = (image_BC @ state[f"{keys[0]}.weight"].T + state[f"{keys[0]}.bias"]).tanh()
    flat = hidden @ state[f"{keys[1]}.weight"].T + state[f"{keys[1]}.bias"]
    return flat.reshape(len(image_BC), P, D)


def clipcap_transformer(dim: int = C) -> State:
    state = linear("clip_project.linear", K * D, dim)
    state["clip_project.prefix_const"] = torch.randn(P, D)
    for layer in range(2):
        stem = f"clip_project.transformer.layers.{layer}"
        state |= norm(f"{stem}.norm1") | norm(f"{stem}.norm2")
        state |= linear(f"{stem}.attn.to_queries", D, D, bias=False)
        state |= linear(f"{stem}.attn.to_keys_values", 2 * D, D, bias=False)
        state |= linear(f"{stem}.attn.project", D, D)
        state |= linear(f"{stem}.mlp.fc1", 2 * D, D) | linear(f"{stem}.mlp.fc2", D, 2 * D)
    return state


def plain_clipcap_transformer(state: State, image_BC: Tensor) -> Tensor:
    return torch.stack([_plain_one(state, image_C) for image_C in image_BC])


def _plain_one(state: State, image_C: Tensor) -> Tensor:
    """One image, one head after the other."""
    first = state["clip_project.linear.weight"] @ image_C + state["clip_project.linear.bias"]
    x = torch.cat([first.reshape(K, D), state["clip_project.prefix_const"]])
    for layer in range(2):
        part = f"clip_project.transformer.layers.{layer}."
        own = {key.removeprefix(part): value for key, value in state.items() if part in key}
        y = functional.layer_norm(x, (D,), own["norm1.weight"], own["norm1.bias"])
        queries = y @ own["attn.to_queries.weight"].T
        keys_values = (y @ own["attn.to_keys_values.weight"].T).reshape(len(x), 2, 8, D // 8)
        heads = []
        for head in range(8):
            query = queries.reshape(len(x), 8, D // 8)[:, head]
            chances = (query @ keys_values[:, 0, head].T * (D // 8) ** -0.5).softmax(dim=-1)
            heads.append(chances @ keys_values[:, 1, head])
        x = x + torch.cat(heads, -1) @ own["attn.project.weight"].T + own["attn.project.bias"]
        y = functional.layer_norm(x, (D,), own["norm2.weight"], own["norm2.bias"])
        hidden = (y @ own["mlp.fc1.weight"].T + own["mlp.fc1.bias"]).relu()
        x = x + hidden @ own["mlp.fc2.weight"].T + own["mlp.fc2.bias"]
    return x[K:]


def clipxgpt() -> State:
    state = linear("mp.mapper", P * D, D)
    for layer in range(2):
        stem = f"mp.transformer_encoder.layers.{layer}"
        attention = linear(f"{stem}.self_attn.in_proj", 3 * D, D)
        state |= {key.replace("in_proj.", "in_proj_"): value for key, value in attention.items()}
        state |= linear(f"{stem}.self_attn.out_proj", D, D)
        state |= linear(f"{stem}.linear1", 4 * D, D) | linear(f"{stem}.linear2", D, 4 * D)
        state |= norm(f"{stem}.norm1") | norm(f"{stem}.norm2")
    return state


def clipxgpt_giant(dim: int = C) -> State:
    return clipxgpt() | linear("mp.some_name_or_other", D, dim)


def plain_clipxgpt(state: State, image_BC: Tensor) -> Tensor:
    """Attention of one image to itself alone is its value."""
    x = image_BC
    if "mp.some_name_or_other.weight" in state:
        x = x @ state["mp.some_name_or_other.weight"].T + state["mp.some_name_or_other.bias"]
    for layer in range(2):
        part = f"mp.transformer_encoder.layers.{layer}."
        own = {key.removeprefix(part): value for key, value in state.items() if part in key}
        value = x @ own["self_attn.in_proj_weight"][2 * D :].T + own["self_attn.in_proj_bias"][-D:]
        seen = value @ own["self_attn.out_proj.weight"].T + own["self_attn.out_proj.bias"]
        x = functional.layer_norm(x + seen, (D,), own["norm1.weight"], own["norm1.bias"])
        hidden = (x @ own["linear1.weight"].T + own["linear1.bias"]).relu()
        more = hidden @ own["linear2.weight"].T + own["linear2.bias"]
        x = functional.layer_norm(x + more, (D,), own["norm2.weight"], own["norm2.bias"])
    flat = x @ state["mp.mapper.weight"].T + state["mp.mapper.bias"]
    return flat.reshape(len(image_BC), P, D)


Plain = Callable[[State, Tensor], Tensor]
KINDS: dict[str, tuple[Callable[[], State], Plain, str, int]] = {
    "clipcap-mlp": (clipcap_mlp, plain_clipcap_mlp, "gpt.", C),
    "clipcap-transformer": (clipcap_transformer, plain_clipcap_transformer, "gpt.", C),
    "clipcap-reimplemented": (reimplemented, plain_reimplemented, "gpt.", C),
    "clipxgpt": (clipxgpt, plain_clipxgpt, "td.model.", D),
    "clipxgpt with an input layer": (clipxgpt_giant, plain_clipxgpt, "td.model.", C),
}
"""By name: the mapper's state, what it computes, the language model's prefix, C."""


def state_of(kind: str, *, seed: int = 1, old: bool = False) -> State:
    """A whole checkpoint's state."""
    torch.manual_seed(seed)
    mapper, _, prefix, _ = KINDS[kind]
    return mapper() | language_state(prefix, old=old)


def stand_ins() -> dict[str, State]:
    """What docs/importing.md names, small, and as wide as the encoders that it names.

    CLIPxGPT's tokens are as wide as its encoder; small ones need the input layer for that.
    """
    mappers = {
        "coco_weights.pt": ("gpt.", clipcap_mlp(512)),
        "transformer_weights.pt": ("gpt.", clipcap_transformer(640)),
        "coco_prefix_best_200k.pt": ("gpt.", reimplemented(512)),
        "clipxgpt_small.pt": ("td.model.", clipxgpt_giant(768)),
        "clipxgpt_large.pt": ("td.model.", clipxgpt_giant(1024)),
        "clipxgpt_giant.pt": ("td.model.", clipxgpt_giant(1408)),
    }
    return {file: mapper | language_state(prefix) for file, (prefix, mapper) in mappers.items()}
