"""Any causal language model that takes embeddings says what a plain loop says, and is saved."""

from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import DIM, tiny_tokenizer
from torch import Tensor
from transformers import (
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    Qwen2Config,
)

from captioner.captions import Caption
from captioner.configs import EncoderSpec, MapperConfig, ModelConfig, Opening
from captioner.decoding import Beam, Decoding, Greedy, Sample
from captioner.errors import ModelError
from captioner.folder_encoder import START
from captioner.language import _AUTO, LanguageModel
from captioner.lines import sample_seed
from captioner.model import CaptionModel, load_model

TOKENIZER = tiny_tokenizer()
BOS_ID = TOKENIZER.token_to_id(START)
WIDTH = 32
COMMON = {
    "vocab_size": TOKENIZER.get_vocab_size(),
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**COMMON, intermediate_size=64, num_key_value_heads=2),
    "llama-tied": LlamaConfig(**COMMON, intermediate_size=64, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**COMMON, intermediate_size=64, num_key_value_heads=2),
    "qwen2-tied": Qwen2Config(
        **COMMON, intermediate_size=64, num_key_value_heads=4, tie_word_embeddings=True
    ),
    "gpt-neox": GPTNeoXConfig(**COMMON, intermediate_size=64),
    "opt": OPTConfig(**COMMON, ffn_dim=64, word_embed_proj_dim=WIDTH),
    "opt-narrow": OPTConfig(**COMMON, ffn_dim=64, word_embed_proj_dim=16),
    "gpt2-untied": GPT2Config(**COMMON, tie_word_embeddings=False),
}
IMAGES = torch.randn(12, DIM, generator=torch.Generator().manual_seed(2))
STOPS = tuple(range(0, 258, 8))
IDS = [str(at) for at in range(12)]


def tiny(name: str, prefix_tokens: int = 4, opening: Opening | None = None) -> CaptionModel:
    torch.manual_seed(1)
    network: Any = _AUTO.from_config(CONFIGS[name], attn_implementation="sdpa")
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(4.0 if weight.ndim > 1 else 1.0)
    language = LanguageModel(network, TOKENIZER)
    config = ModelConfig(
        encoder=EncoderSpec(name="tiny", dim=DIM),
        mapper=MapperConfig(
            image_dim=DIM, token_dim=language.token_dim, prefix_tokens=prefix_tokens
        ),
        opening=opening or Opening(),
        decoding=Greedy(12, STOPS),
    )
    return CaptionModel(config, language).eval()


@pytest.fixture(scope="module", params=list(CONFIGS))
def named(request: pytest.FixtureRequest) -> tuple[str, CaptionModel]:
    return request.param, tiny(request.param)


def next_logprobs(model: CaptionModel, image_C: Tensor, said: list[int]) -> Tensor:
    """Of the next token, all before it read anew."""
    network = model.language.network
    begin = [] if model.config.opening.bos_id is None else [model.config.opening.bos_id]
    parts = [
        network.get_input_embeddings()(torch.tensor([begin], dtype=torch.long)),
        model.prefix(image_C[None]),
        network.get_input_embeddings()(torch.tensor([said], dtype=torch.long)),
    ]
    logits_V: Tensor = network(inputs_embeds=torch.cat(parts, 1), use_cache=False).logits[0, -1]
    return logits_V.double().log_softmax(-1)


def plain_greedy(model: CaptionModel, image_C: Tensor, most: int) -> tuple[int, ...]:
    said: list[int] = []
    while len(said) < most:
        token = int(next_logprobs(model, image_C, said).argmax())
        if token in STOPS:
            break
        said.append(token)
    return tuple(said)


def plain_sample(model: CaptionModel, image_C: Tensor, id_: str, most: int) -> tuple[int, ...]:
    said: list[int] = []
    for number in np.random.default_rng(sample_seed(0, id_, 0)).random(most):
        reached = next_logprobs(model, image_C, said).exp().cumsum(0)
        token = int((reached <= number).sum())
        if token in STOPS:
            break
        said.append(token)
    return tuple(said)


def plain_beams(model: CaptionModel, image_C: Tensor, most: int) -> tuple[int, ...]:
    """The best of three beams as transformers finds it, stops first ranked by the mean."""
    growing, ended = [((), 0.0)], list[tuple[tuple[int, ...], float]]()
    for length in range(1, most + 1):
        found = []
        for said, total in growing:
            logprob_V = next_logprobs(model, image_C, list(said))
            found += [((*said, at), total + one) for at, one in enumerate(logprob_V.tolist())]
        found.sort(key=lambda pair: -pair[1])
        over = [pair for pair in found[:3] if pair[0][-1] in STOPS or length == most]
        ended += [(said, total / length) for said, total in over]
        ended = sorted(ended, key=lambda pair: -pair[1])[:3]
        growing = [pair for pair in found if pair[0][-1] not in STOPS][:3]
        if len(ended) == 3 and ended[-1][1] >= growing[0][1] / length:
            break
    best = ended[0][0]
    return best[:-1] if best[-1] in STOPS else best


def said_by(model: CaptionModel, decoding: Decoding) -> list[tuple[int, ...]]:
    return [row[0].token_ids for row in model.candidates(IMAGES, decoding, IDS)]


@torch.inference_mode()
def test_every_family_writes_what_a_plain_loop_writes(named: tuple[str, CaptionModel]) -> None:
    _, model = named
    greedy = [plain_greedy(model, image_C, 12) for image_C in IMAGES]
    assert said_by(model, Greedy(12, STOPS)) == greedy
    assert len(set(greedy)) > 6
    assert len({len(one) for one in greedy}) > 1
    pairs = zip(IMAGES, IDS, strict=True)
    drawn = [plain_sample(model, image_C, id_, 12) for image_C, id_ in pairs]
    assert said_by(model, Sample(12, STOPS)) == drawn
    assert len({len(one) for one in drawn}) > 3
    best = [plain_beams(model, image_C, 8) for image_C in IMAGES[:6]]
    assert said_by(model, Beam(8, STOPS, beams=3))[:6] == best


@pytest.mark.parametrize("decoding", [Greedy(10), Beam(10, STOPS, n=3), Sample(10, n=2)])
def test_every_family_comes_back_from_its_folder(
    named: tuple[str, CaptionModel], decoding: Decoding, tmp_path: Path
) -> None:
    _, model = named
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model", device="cpu")
    assert loaded.config == model.config
    assert captions(loaded, decoding) == captions(model, decoding)


def captions(model: CaptionModel, decoding: Decoding) -> list[list[Caption]]:
    return model.candidates(IMAGES, decoding, IDS)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["llama", "gpt-neox", "opt"])
@pytest.mark.parametrize("prefix_tokens", [1, 10, 40])
def test_prefixes_of_any_length_are_read_whole(name: str, prefix_tokens: int) -> None:
    model = tiny(name, prefix_tokens)
    plain = [plain_greedy(model, image_C, 8) for image_C in IMAGES[:4]]
    assert said_by(model, Greedy(8, STOPS))[:4] == plain


@torch.inference_mode()
@pytest.mark.parametrize("name", ["llama", "opt"])
def test_a_beginning_token_stands_before_the_prefix(name: str) -> None:
    model = tiny(name, opening=Opening(kind="bos", bos_id=BOS_ID))
    plain = [plain_greedy(model, image_C, 10) for image_C in IMAGES[:6]]
    assert said_by(model, Greedy(10, STOPS))[:6] == plain
    assert plain != said_by(tiny(name), Greedy(10, STOPS))[:6]


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt-neox", "opt"])
def test_clipxgpts_opening_needs_gpt2s_positions(name: str) -> None:
    with pytest.raises(ModelError, match="needs a language model that adds position embeddings"):
        tiny(name, opening=Opening(kind="clipxgpt", bos_id=BOS_ID))


@pytest.mark.parametrize("kind", ["bos", "clipxgpt"])
def test_a_beginning_token_out_of_the_vocabulary_is_refused(kind: str) -> None:
    with pytest.raises(ModelError, match="bos_id 258 is not among the model's 258 tokens"):
        tiny("gpt2-untied", opening=Opening(kind=kind, bos_id=258))


@pytest.mark.parametrize("count", [1, 65, 110, 120, 127, 128])
@pytest.mark.parametrize(
    "decoding", [Greedy(12, STOPS), Beam(6, STOPS[:5], beams=2), Sample(6, STOPS, n=3)]
)
def test_a_last_batch_may_be_of_any_size(decoding: Decoding, count: int) -> None:
    """Rows enter a foreign cache together: slots that stay empty have no rows in it."""
    model = tiny("llama")
    image_BC = torch.randn(count, DIM, generator=torch.Generator().manual_seed(2))
    ids = [str(at) for at in range(count)]
    model.batch_size = 64
    in_turns = model.candidates(image_BC, decoding, ids)
    model.batch_size = 1024
    together = model.candidates(image_BC, decoding, ids)
    assert [[one.token_ids for one in row] for row in in_turns] == [
        [one.token_ids for one in row] for row in together
    ]


@pytest.mark.parametrize("mode", ["default", "clipcap"])
def test_a_caption_that_breaks_midway_fails_alone(mode: str) -> None:
    """Beams of it may have ended before; what is done may break if it goes on in its slot."""
    model = tiny("gpt2-untied")
    network = model.language.network
    assert network.lm_head.weight is not network.transformer.wte.weight
    with torch.no_grad():
        network.transformer.wte.weight[1:258:16] = torch.nan  # whoever goes on from these breaks
    image_BC = torch.randn(200, DIM, generator=torch.Generator().manual_seed(3))
    ids, decoding = [str(at) for at in range(200)], Beam(12, STOPS, beams=3, n=2, mode=mode)
    model.batch_size = 1024
    together = model.candidates(image_BC, decoding, ids)
    model.batch_size = 96  # 32 slots, which captions enter two at a time
    in_turns = model.candidates(image_BC, decoding, ids)
    lost = [isnan(row[0].logprob) for row in together]
    assert 20 < sum(lost) < 180
    assert [isnan(row[0].logprob) for row in in_turns] == lost
    for row, other, broken in zip(in_turns, together, lost, strict=True):
        assert [one.token_ids for one in row] == [one.token_ids for one in other]
        assert all(isnan(one.logprob) == broken for one in row)
    assert len(model.caption_embeddings(image_BC, Beam(12, STOPS, beams=3, mode=mode))) == 200
