"""Settings of mappers and decodings: they come back from a folder, and bad ones are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import FAMILIES, random_pair
from tiny_models import DIM, tiny_model

from captioner.configs import EncoderSpec, MapperConfig, ModelConfig, Opening, Wording
from captioner.decoding import Beam, Decoding, Greedy, Sample, decoding_from_json
from captioner.errors import ModelError
from captioner.model import CaptionModel, load_model

DECODINGS: list[Decoding] = [
    Greedy(),
    Greedy(9, (4, 2), stop_strings=("\n", "; "), min_tokens=3),
    Greedy(11, repetition_penalty=1.2, no_repeat_ngram=3),
    Beam(),
    Beam(13, (7,), beams=4, n=3, length_penalty=0.5),
    Beam(10, (7,), mode="clipcap"),
    Sample(),
    Sample(9, (1,), n=4, seed=11, temperature=0.7, top_k=5, top_p=0.9, min_p=0.05),
]


@pytest.mark.parametrize("decoding", DECODINGS)
def test_every_decoding_survives_json(decoding: Decoding) -> None:
    assert decoding_from_json(json.loads(json.dumps(decoding.to_json()))) == decoding


def test_a_decoding_at_its_defaults_says_only_where_it_ends() -> None:
    for strategy in ("greedy", "beam", "sample"):
        content = decoding_from_json({"strategy": strategy}).to_json()
        assert content == {"strategy": strategy, "max_tokens": 64, "stop_ids": []}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("decoding", [DECODINGS[1], DECODINGS[4], DECODINGS[5], DECODINGS[7]])
def test_every_mapper_and_opening_captions_alike_after_saving(
    name: str, decoding: Decoding, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    family = FAMILIES[name]
    model, _ = random_pair(family)
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model", device="cpu")
    assert loaded.config == model.config
    images = torch.randn(5, family.image_dim)
    assert loaded.candidates(images, decoding) == model.candidates(images, decoding)
    assert torch.equal(loaded.prefix(images), model.prefix(images))


@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_models_own_decoding_comes_back_with_it(decoding: Decoding, tmp_path: Path) -> None:
    before = tiny_model()
    content = before.config.to_json() | {"decoding": decoding.to_json()}
    model = CaptionModel(ModelConfig.from_json(content), before.language)
    model.save(tmp_path / "model")
    assert load_model(tmp_path / "model", device="cpu").decoding == decoding


def test_a_model_saved_before_there_were_openings_and_wordings_still_loads(tmp_path: Path) -> None:
    model = tiny_model()
    model.save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    content = json.loads(path.read_text())
    del content["opening"], content["wording"]
    path.write_text(json.dumps(content))
    loaded = load_model(tmp_path / "model", device="cpu")
    assert (loaded.config.opening, loaded.config.wording) == (Opening(), Wording())
    images = torch.randn(3, DIM)
    assert loaded.caption_embeddings(images) == model.caption_embeddings(images)


ENCODER_MAPPER = {"kind": "encoder", "image_dim": 32, "token_dim": 32}


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (MapperConfig, {"kind": "transformer", "token_dim": 36}, "8 heads do not divide .* 36"),
        (MapperConfig, ENCODER_MAPPER | {"heads": 5}, "5 heads do not divide .* 32"),
        (MapperConfig, ENCODER_MAPPER | {"image_dim": 24}, "but they are 24 and 32 wide"),
        (MapperConfig, {"prefix_tokens": 0}, "prefix_tokens must be at least 1, got 0"),
        (MapperConfig, {"kind": "transformer", "clip_length": 0}, "clip_length must be at least"),
        (MapperConfig, {"dropout": 1.0}, "dropout must be from 0 to below 1, got 1.0"),
        (MapperConfig, {"hidden_dim": -1}, "hidden_dim must be 0 or more, got -1"),
        (EncoderSpec, {"name": "a", "dim": 0}, "dim must be at least 1, got 0"),
        (EncoderSpec, {"name": "a", "dim": 4, "feature": "cls"}, "projected or pooled, got 'cls'"),
        (Opening, {"kind": "suffix"}, "prefix, bos or clipxgpt, got 'suffix'"),
        (Opening, {"kind": "bos"}, "'bos' does not go with bos_id None"),
        (Opening, {"kind": "clipxgpt"}, "'clipxgpt' does not go with bos_id None"),
        (Opening, {"bos_id": 3}, "'prefix' does not go with bos_id 3"),
        (Greedy, {"max_tokens": 4, "min_tokens": 4}, "below max_tokens, got 4 and 4"),
        (Greedy, {"min_tokens": -1}, "min_tokens must be at least 0, got -1"),
        (Greedy, {"repetition_penalty": 0.0}, "repetition_penalty must be above 0, got 0.0"),
        (Greedy, {"no_repeat_ngram": -2}, "no_repeat_ngram must be at least 0, got -2"),
        (Greedy, {"stop_strings": ("",)}, "stop string must not be empty"),
        (Beam, {"beams": 0}, "beams must be at least 1, got 0"),
        (Beam, {"n": 6}, "n must be at most beams, got 6 of 5"),
        (Beam, {"mode": "greedy"}, "mode must be default or clipcap, got 'greedy'"),
        (Beam, {"mode": "clipcap", "length_penalty": 0.5}, "leave length_penalty at 1"),
        (Sample, {"temperature": 0.0}, "temperature must be above 0, got 0.0; or use greedy"),
        (Sample, {"temperature": float("nan")}, "temperature must be above 0, got nan"),
        (Sample, {"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0.0"),
        (Sample, {"top_p": 1.1}, "top_p must be above 0 and at most 1, got 1.1"),
        (Sample, {"top_k": -1}, "top_k must be at least 0, got -1"),
        (Sample, {"min_p": 1.0}, "min_p must be from 0 to below 1, got 1.0"),
        (Sample, {"n": 0}, "n must be at least 1, got 0"),
        (Sample, {"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_a_bad_setting_is_refused_in_one_sentence(
    kind: type[Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        kind(**settings)
    assert "\n" not in str(caught.value)


def test_a_misspelt_setting_in_the_config_is_named() -> None:
    content = tiny_model().config.to_json()
    for part, name in (("opening", "bos"), ("wording", "capitals"), ("mapper", "head")):
        odd = content | {part: {**content[part], name: 1}}
        with pytest.raises(ModelError, match=f"config.json is not valid.*'{name}'"):
            ModelConfig.from_json(odd)


@pytest.mark.parametrize("stop_id", [999, -1])
def test_a_stop_token_that_the_model_cannot_say_changes_nothing(stop_id: int) -> None:
    """Forbidding it until min_tokens must neither fail nor hit the last token of the vocabulary."""
    model, images = tiny_model(), torch.randn(9, DIM)
    with_stop = model.candidates(images, Greedy(8, (stop_id,), min_tokens=7))
    without = model.candidates(images, Greedy(8))
    for (one,), (other,) in zip(with_stop, without, strict=True):
        assert one.token_ids == other.token_ids
        assert one.logprob == pytest.approx(other.logprob, abs=1e-5)


@pytest.mark.parametrize("mode", ["default", "clipcap"])
def test_more_beams_than_tokens_are_refused(mode: str) -> None:
    with pytest.raises(ModelError, match="400 beams are more than the model's 258 tokens"):
        tiny_model().candidates(torch.zeros(1, DIM), Beam(3, beams=400, mode=mode))
