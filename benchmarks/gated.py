"""A gpt2-sized captioner with random weights whose captions have the lengths one asks for.

Random weights never end a caption, trained ones cannot be had without network. So a *gate* is laid
into the weights: the first number of an embedding says how long its caption gets, and the stop
token is the likeliest exactly then, in every implementation that computes GPT-2 rightly. Sizes,
and so the work, are those of gpt2; what stands before the stop token is noise.

Shapes:  B rows   C image embedding   D token embedding
How it works: two numbers of the residual stream are kept for the gate. The position table writes
the step into one; the first head of the first block copies the wanted length from the first prefix
token into the other; the stop token's embedding takes their difference. Nothing else writes there.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from captioner.configs import EncoderSpec, MapperConfig, ModelConfig
from captioner.decoding import Greedy
from captioner.language import LanguageModel
from captioner.model import CaptionModel

LENGTH, STEP, MARK = 0, 1, 2
"""The numbers of the residual stream that the gate keeps: wanted length, step, first position."""
_KEPT = [LENGTH, STEP, MARK]
_UNIT = 0.25  # what a token of length is worth in the residual stream; a power of two stays exact
_LOUD = 500.0  # the mark, so large that it alone decides the first position's norm
_SHUT = 200.0  # weight of the gate in the stop token's logit


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """Sizes of the model, and which lengths its captions have; the defaults are gpt2's."""

    vocabulary: int = 50_257
    width: int = 768
    layers: int = 12
    positions: int = 1024
    image_dim: int = 512
    prefix_tokens: int = 10
    shortest: int = 6
    """Tokens of the shortest caption, the stop token included."""
    longest: int = 20
    """Tokens of the longest."""
    seed: int = 0

    @property
    def stop_id(self) -> int:
        """The token that ends a caption, where gpt2 has its own."""
        return self.vocabulary - 1

    @property
    def middle(self) -> float:
        """The length in the middle, which the gate counts from."""
        return (self.shortest + self.longest) / 2

    @property
    def decoding(self) -> Greedy:
        """Until the stop token."""
        return Greedy(self.longest, (self.stop_id,))


def gated_model(gated: Gated) -> CaptionModel:
    """The model in float32."""
    torch.manual_seed(gated.seed)
    network = GPT2LMHeadModel(_config(gated))
    words = {f"w{number}": number for number in range(gated.vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))  # noqa: S106 - no password
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    config = ModelConfig(
        encoder=EncoderSpec(name="", dim=gated.image_dim, normalized=False),
        mapper=MapperConfig(
            image_dim=gated.image_dim,
            token_dim=gated.width,
            prefix_tokens=gated.prefix_tokens,
        ),
        decoding=gated.decoding,
    )
    model = CaptionModel(config, LanguageModel(network, tokenizer)).eval()
    with torch.no_grad():
        _keep_free(network)
        _lay_gate(model, gated)
        _calibrate(model, gated)
    return model


def save_gated(gated: Gated, folder: Path) -> Path:
    """The folder of the model, written unless it is there."""
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
        gated_model(gated).save(partial)
        partial.rename(folder)
    return folder


def gated_images(gated: Gated, count: int, seed: int = 1) -> tuple[Tensor, list[int]]:
    """Embeddings image_BC, and the length of each one's caption: all alike often, shuffled."""
    generator = torch.Generator().manual_seed(seed)
    kinds = gated.longest - gated.shortest + 1
    lengths_B = torch.arange(count) % kinds + gated.shortest
    lengths_B = lengths_B[torch.randperm(count, generator=generator)]
    image_BC = torch.randn(count, gated.image_dim, generator=generator)
    image_BC[:, 0] = _wish(lengths_B, gated)
    return image_BC, lengths_B.tolist()


def few_rows(lengths: list[int], count: int) -> list[int]:
    """Rows whose captions are short, middling and long as all of `lengths` are."""
    by_length = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return [by_length[int((number + 0.5) * len(lengths) / count)] for number in range(count)]


def gigaflops(gated: Gated, lengths: list[int]) -> float:
    """Work of an average caption: two operations a weight and position (docs/performance.md).

    Every position but the last token's goes through the blocks, the vocabulary is needed once a
    token, the mapper once. Attention over so few positions is left out (under 1 %).
    """
    block = 12 * gated.width**2 * gated.layers
    flat = gated.prefix_tokens * gated.width
    mapper = gated.image_dim * flat // 2 + flat // 2 * flat
    length = sum(lengths) / len(lengths)
    read = gated.prefix_tokens + length - 1
    return 2 * (block * read + gated.vocabulary * gated.width * length + mapper) / 1e9


def _config(gated: Gated) -> GPT2Config:
    return GPT2Config(
        vocab_size=gated.vocabulary,
        n_positions=gated.positions,
        n_embd=gated.width,
        n_layer=gated.layers,
        n_head=gated.width // (64 if gated.width >= 512 else 16),
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=gated.stop_id,
        eos_token_id=gated.stop_id,
    )


def _wish(lengths_B: Tensor, gated: Gated) -> Tensor:
    """The first number of an embedding: -1 for the shortest caption to 1 for the longest."""
    return (lengths_B - gated.middle) / max(1.0, (gated.longest - gated.shortest) / 2)


def _keep_free(network: Any) -> None:
    """Let nothing write into the gate's numbers, and let the blocks, not the last token, decide."""
    network.transformer.wte.weight[:, _KEPT] = 0
    network.transformer.wpe.weight[:, _KEPT] = 0
    for block in network.transformer.h:
        block.attn.c_attn.weight.mul_(3.0)  # captions that vary, as those of a trained model do
        block.mlp.c_fc.weight.mul_(3.0)
        for layer in (block.attn.c_proj, block.mlp.c_proj):
            layer.weight.mul_(3.0)
            layer.weight[:, _KEPT] = 0
            layer.bias[_KEPT] = 0


def _lay_gate(model: CaptionModel, gated: Gated) -> None:
    network: Any = model.language.network
    first, last = model.mapper.layers[0], model.mapper.layers[2]
    first.weight[0] = 0
    first.bias[0] = 0
    first.weight[0, 0] = 0.2  # where tanh is nearly a straight line
    per_token = torch.arange(gated.prefix_tokens) * gated.width
    for number in _KEPT:
        last.weight[per_token + number] = 0
        last.bias[per_token + number] = 0
    last.weight[LENGTH, 0] = 50.0  # well above the noise of other numbers

    table, table_of_tokens = network.transformer.wpe.weight, network.transformer.wte.weight
    step_T = (
        torch.arange(gated.positions) - gated.prefix_tokens + 2
    )  # tokens, the next one included
    table[:, STEP] = _UNIT * (step_T - gated.middle + 0.5).clamp(-gated.longest, gated.longest)
    table[0, MARK] = _LOUD
    table_of_tokens[gated.stop_id] = 0
    table_of_tokens[gated.stop_id, STEP] = _SHUT
    table_of_tokens[gated.stop_id, LENGTH] = -_SHUT

    attention = network.transformer.h[0].attn
    wide = network.config.n_embd // network.config.n_head
    weight, bias = attention.c_attn.weight, attention.c_attn.bias  # (in, query | key | value)
    for part in (0, gated.width):
        weight[:, part : part + wide] = 0
        bias[part : part + wide] = 0
    bias[0] = 8.0
    weight[MARK, gated.width] = 1.0  # so every position looks at the first
    weight[:, 2 * gated.width] = 0
    weight[LENGTH, 2 * gated.width] = 1.0
    attention.c_proj.weight[0] = 0


def _calibrate(model: CaptionModel, gated: Gated) -> None:
    """Find the straight line from what the head copies to the length."""
    network: Any = model.language.network
    projection = network.transformer.h[0].attn.c_proj
    projection.weight[0, LENGTH] = 1.0
    ends_B = torch.tensor([gated.shortest, gated.longest])
    image_BC = torch.zeros(2, gated.image_dim)
    image_BC[:, 0] = _wish(ends_B, gated)
    output = network(inputs_embeds=model.prefix(image_BC), output_hidden_states=True)
    low, high = (output.hidden_states[1][:, -1, LENGTH]).tolist()
    slope = _UNIT * (gated.longest - gated.shortest) / (high - low)
    projection.weight[0, LENGTH] = slope
    projection.bias[LENGTH] = _UNIT * (gated.longest - gated.middle) - slope * high
