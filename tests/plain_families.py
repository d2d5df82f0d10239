"""The published captioners in plain steps: one image, no batch, no cache, all read again each time.

Weights go by the keys of the published files (G's extra linear layer aside, whose name is ours)
and are random. Written from what those systems compute; shares no code with `captioner`.
Shapes:  C image embedding   P prefix tokens   D token embedding   S sequence   V vocabulary
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]
Opening = Callable[[State, Tensor, Sequence[int]], Tensor]
"""What the language model is given: weights, prefix_PD and the tokens so far to inputs_SD."""


def linear(state: State, name: str, x: Tensor) -> Tensor:
    """Weight is (out, in); a layer without a bias has no such key."""
    out = torch.einsum("oi,...i->...o", state[f"{name}.weight"], x)
    return out + state[f"{name}.bias"] if f"{name}.bias" in state else out


def norm(state: State, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def attend(q_SD: Tensor, k_SD: Tensor, v_SD: Tensor, heads: int) -> Tensor:
    """Each place of a sequence gathers from all of it, head by head."""
    gathered = torch.zeros_like(q_SD)
    width = q_SD.shape[1] // heads
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = torch.einsum("qe,ke->qk", q_SD[:, part], k_SD[:, part]) * width**-0.5
        gathered[:, part] = torch.einsum("qk,ke->qe", scores.softmax(-1), v_SD[:, part])
    return gathered


def clipcap_mlp(state: State, image_C: Tensor) -> Tensor:
    hidden = linear(state, "clip_project.model.0", image_C).tanh()
    return linear(state, "clip_project.model.2", hidden).view(-1, token_dim(state))


def vlm_fun(state: State, image_C: Tensor) -> Tensor:
    hidden = linear(state, "mapping.proj1", image_C).tanh()
    return linear(state, "mapping.proj2", hidden).view(-1, token_dim(state))


def clipcap_transformer(state: State, image_C: Tensor) -> Tensor:
    constant_PD = state["clip_project.prefix_const"]
    image_KD = linear(state, "clip_project.linear", image_C).view(-1, token_dim(state))
    x = torch.cat([image_KD, constant_PD])
    for layer in range(8):
        name = f"clip_project.transformer.layers.{layer}"
        y = norm(state, f"{name}.norm1", x)
        both = linear(state, f"{name}.attn.to_keys_values", y).view(len(x), 2, -1)
        queries = linear(state, f"{name}.attn.to_queries", y)
        gathered = attend(queries, both[:, 0], both[:, 1], heads=8)
        x = x + linear(state, f"{name}.attn.project", gathered)
        y = linear(state, f"{name}.mlp.fc1", norm(state, f"{name}.norm2", x)).clamp_min(0)
        x = x + linear(state, f"{name}.mlp.fc2", y)
    return x[-len(constant_PD) :]


def clipxgpt(state: State, image_C: Tensor) -> Tensor:
    """One image given alone is a sequence of length 1 to the encoder layers."""
    x = linear(state, "mp.widen", image_C) if "mp.widen.weight" in state else image_C
    x, layer = x[None], 0
    while f"mp.transformer_encoder.layers.{layer}.linear1.weight" in state:
        name = f"mp.transformer_encoder.layers.{layer}"
        weight = state[f"{name}.self_attn.in_proj_weight"]
        both = torch.einsum("oi,si->so", weight, x) + state[f"{name}.self_attn.in_proj_bias"]
        q, k, v = both.split(x.shape[1], dim=1)
        gathered = linear(state, f"{name}.self_attn.out_proj", attend(q, k, v, heads=16))
        x = norm(state, f"{name}.norm1", x + gathered)
        hidden = linear(state, f"{name}.linear1", x).clamp_min(0)
        x = norm(state, f"{name}.norm2", x + linear(state, f"{name}.linear2", hidden))
        layer += 1
    return linear(state, "mp.mapper", x).view(-1, token_dim(state))


def gpt2(state: State, inputs_SD: Tensor, heads: int = 2) -> Tensor:
    """Logits_V after the last of `inputs_SD` (or of several such, stacked in front)."""
    length = inputs_SD.shape[-2]
    x = inputs_SD + lm(state, "transformer.wpe.weight")[:length]
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    layer = 0
    while f"{root(state)}transformer.h.{layer}.ln_1.weight" in state:
        name = f"{root(state)}transformer.h.{layer}"
        q, k, v = _conv(state, f"{name}.attn.c_attn", norm(state, f"{name}.ln_1", x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(-3, -2) for part in (q, k, v))
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        chances = scores.masked_fill(future, -torch.inf).softmax(-1)
        gathered = (chances @ v).transpose(-3, -2).flatten(-2)
        x = x + _conv(state, f"{name}.attn.c_proj", gathered)
        y = _conv(state, f"{name}.mlp.c_fc", norm(state, f"{name}.ln_2", x))
        y = 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
        x = x + _conv(state, f"{name}.mlp.c_proj", y)
        layer += 1
    last = norm(state, f"{root(state)}transformer.ln_f", x[..., -1, :])
    return last @ lm(state, "transformer.wte.weight").T


def _conv(state: State, name: str, x: Tensor) -> Tensor:
    """GPT-2 keeps its weights as (in, out)."""
    return x @ state[f"{name}.weight"] + state[f"{name}.bias"]


def root(state: State) -> str:
    return "td.model." if "td.model.transformer.wte.weight" in state else "gpt."


def lm(state: State, key: str) -> Tensor:
    return state[root(state) + key]


def token_dim(state: State) -> int:
    return lm(state, "transformer.wte.weight").shape[1]


def prefix_then_tokens(state: State, prefix_PD: Tensor, tokens: Sequence[int]) -> Tensor:
    return torch.cat([prefix_PD, lm(state, "transformer.wte.weight")[list(tokens)]])


def clipxgpt_opening(bos_id: int) -> Opening:
    """Positions come twice before the first token, then thrice on the opening, twice on tokens."""

    def inputs(state: State, prefix_PD: Tensor, tokens: Sequence[int]) -> Tensor:
        wte, wpe = lm(state, "transformer.wte.weight"), lm(state, "transformer.wpe.weight")
        start = torch.cat([wte[[bos_id]], prefix_PD])
        start = start + wpe[: len(start)]
        if not tokens:
            return start
        all_of_it = torch.cat([start, wte[list(tokens)]])
        return all_of_it + wpe[: len(all_of_it)]

    return inputs


def clipxgpt_greedy(
    state: State, prefix_PD: Tensor, bos_id: int, stop_id: int, most: int
) -> list[int]:
    """The original's loop, its addition in place included; the stop token is in the answer."""
    wte, wpe = lm(state, "transformer.wte.weight"), lm(state, "transformer.wpe.weight")
    start, said = torch.cat([wte[[bos_id]], prefix_PD]), list[int]()
    while len(said) < most:
        inputs = torch.cat([start, wte[said]]) if said else start
        inputs += wpe[: len(inputs)]  # the first time this is `start` itself
        said.append(int(gpt2(state, inputs).argmax()))
        if said[-1] == stop_id:
            break
    return said


def clipcap_greedy(state: State, prefix_PD: Tensor, stop_id: int, most: int) -> list[int]:
    """ClipCap's nucleus (0.8), then the likeliest of it; the stop token is in the answer."""
    said: list[int] = []
    while len(said) < most:
        logits = gpt2(state, prefix_then_tokens(state, prefix_PD, said))
        order = logits.argsort(descending=True)
        reached = logits.softmax(-1)[order].cumsum(0)
        outside = [False, *(reached > 0.8).tolist()[:-1]]
        logits[order[torch.tensor(outside)]] = -torch.inf
        said.append(int(logits.argmax()))
        if said[-1] == stop_id:
            break
    return said


@dataclass
class Hypothesis:
    tokens: list[int]
    total: float
    length: int = 1
    stopped: bool = False


def clipcap_beam(
    next_logits: Callable[[list[list[int]]], Tensor], stop_id: int, most: int, width: int = 5
) -> list[list[int]]:
    """ClipCap's beams, best mean first, each up to and with its stop token.

    A stopped one goes on with token 0 that costs nothing and takes no length.
    """
    first = next_logits([[]])[0].log_softmax(-1).topk(width)
    beams = [
        Hypothesis([token], total, stopped=token == stop_id)
        for total, token in zip(first.values.tolist(), first.indices.tolist(), strict=True)
    ]
    for _ in range(most - 1):
        if all(beam.stopped for beam in beams):
            break
        following = next_logits([beam.tokens for beam in beams]).log_softmax(-1)
        found: list[tuple[float, Hypothesis]] = []
        for beam, logprob_V in zip(beams, following, strict=True):
            if beam.stopped:
                grown = Hypothesis([*beam.tokens, 0], beam.total, beam.length, stopped=True)
                found.append((beam.total / beam.length, grown))
                continue
            best = logprob_V.topk(width)
            for step, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                total, length = beam.total + step, beam.length + 1
                grown = Hypothesis([*beam.tokens, token], total, length, token == stop_id)
                found.append((total / length, grown))
        beams = [beam for _, beam in sorted(found, key=lambda pair: -pair[0])[:width]]
    beams.sort(key=lambda beam: -beam.total / beam.length)
    return [beam.tokens[: beam.length] for beam in beams]
