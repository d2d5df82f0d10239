"""What cannot become a model is refused in one sentence, runs nothing and leaves nothing."""

import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_checkpoints import C, D, State, clipcap_mlp, language_folder, state_of
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from captioner.errors import ModelError
from captioner.importing.convert import ImportOptions, import_checkpoint


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def lm(tmp_path: Path) -> str:
    return str(language_folder(tmp_path / "tiny-gpt2"))


def refusal(source: Path | str, folder: Path, lm: str = "", **options: Any) -> str:
    """The sentence with which an import is refused; nothing may be left where it would go."""
    there = sorted(folder.parent.rglob("*")) if folder.parent.is_dir() else []
    with pytest.raises(ModelError) as caught:
        import_checkpoint(str(source), folder, ImportOptions(lm=lm, **options))
    if there:
        assert sorted(folder.parent.rglob("*")) == there, "something was written"
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def without_a_mapper_weight(state: State) -> None:
    del state["clip_project.model.2.bias"]


def without_the_mappers_shape(state: State) -> None:
    del state["clip_project.model.2.weight"]


def without_a_language_weight(state: State) -> None:
    del state["gpt.transformer.h.1.mlp.c_fc.weight"]


def without_the_tokens(state: State) -> None:
    del state["gpt.transformer.wte.weight"]
    del state["gpt.lm_head.weight"]


def with_a_third_layer(state: State) -> None:
    state["clip_project.model.4.weight"] = torch.zeros(3, 3)


def with_another_head(state: State) -> None:
    state["gpt.lm_head.weight"] = state["gpt.lm_head.weight"] + 1


def with_a_turned_weight(state: State) -> None:
    key = "gpt.transformer.h.0.attn.c_attn.weight"
    state[key] = state[key].T.contiguous()


def with_integers(state: State) -> None:
    state["clip_project.model.0.bias"] = torch.zeros(3 * D // 2, dtype=torch.long)


def with_a_flat_weight(state: State) -> None:
    state["clip_project.model.0.weight"] = torch.zeros(7)


def with_one_row_too_many(state: State) -> None:
    state["clip_project.model.2.weight"] = torch.zeros(3 * D + 1, 3 * D // 2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_a_mapper_weight, "lacks 'clip_project.model.2.bias'"),
        (without_the_mappers_shape, "lacks 'clip_project.model.2.weight'"),
        (without_a_language_weight, "lacks 'gpt.transformer.h.1.mlp.c_fc.weight'"),
        (without_the_tokens, "lacks the table 'gpt.transformer.wte.weight'"),
        (with_a_third_layer, "holds 'clip_project.model.4.weight', which no part"),
        (with_another_head, "'gpt.lm_head.weight' differs from its token embeddings"),
        (with_a_turned_weight, "c_attn.weight' has shape (96, 32), not (32, 96)"),
        (with_integers, "'clip_project.model.0.bias' holds torch.int64, not floats"),
        (with_a_flat_weight, "'clip_project.model.0.weight' has shape (7,)"),
        (with_one_row_too_many, "writes 97 numbers, no multiple of the language model's width 32"),
    ],
)
def test_tensors_that_do_not_make_a_model_are_named(
    damage: Callable[[State], None], message: str, tmp_path: Path, lm: str
) -> None:
    state = state_of("clipcap-mlp")
    damage(state)
    assert message in refusal(saved(tmp_path / "weights.pt", state), tmp_path / "model", lm)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_embd": 48}, "has width 32, but 'other' has 48"),
        ({"n_layer": 3}, "has layers 2, but 'other' has 3"),
        ({"n_positions": 64}, "has positions 128, but 'other' has 64"),
    ],
)
def test_another_language_model_than_the_checkpoints_is_named_with_both_sizes(
    changes: dict[str, int], message: str, tmp_path: Path
) -> None:
    lm = language_folder(tmp_path / "other", **changes)
    path = saved(tmp_path / "weights.pt", state_of("clipcap-mlp"))
    assert message in refusal(path, tmp_path / "model", str(lm))


def test_a_mapper_alone_must_be_told_its_language_model(tmp_path: Path) -> None:
    path = saved(tmp_path / "mapper.pt", clipcap_mlp())
    assert "a mapper alone" in refusal(path, tmp_path / "model")


def test_a_mapper_alone_is_refused_where_the_language_model_was_trained(
    tmp_path: Path, lm: str
) -> None:
    state = {key: v for key, v in state_of("clipxgpt").items() if key.startswith("mp.")}
    path = saved(tmp_path / "mapper.pt", state)
    assert "lacks the table 'td.model." in refusal(path, tmp_path / "model", lm)


def test_a_mapper_alone_of_another_width_is_named_with_both(tmp_path: Path) -> None:
    state = {k: v for k, v in state_of("clipcap-transformer").items() if k.startswith("clip")}
    path = saved(tmp_path / "mapper.pt", state)
    lm = str(language_folder(tmp_path / "wide", weights=False, n_embd=64))
    assert "width 32, but the language model reads 64" in refusal(path, tmp_path / "model", lm)


def test_two_unknown_layers_are_no_input_layer(tmp_path: Path, lm: str) -> None:
    state = state_of("clipxgpt with an input layer")
    state["mp.another.weight"] = torch.zeros(D, C)
    path = saved(tmp_path / "weights.pt", state)
    assert "'mp.another.weight'" in refusal(path, tmp_path / "model", lm)


def test_a_size_that_was_never_published_asks_for_its_configuration(tmp_path: Path) -> None:
    path = saved(tmp_path / "weights.pt", state_of("clipcap-mlp"))
    sentence = refusal(path, tmp_path / "model")
    assert "width 32 and 2 layers" in sentence
    assert "--lm" in sentence


def test_a_language_model_that_is_not_at_hand_is_not_fetched_offline(tmp_path: Path) -> None:
    path = saved(tmp_path / "weights.pt", state_of("clipcap-mlp"))
    sentence = refusal(path, tmp_path / "model", "someone/gpt", offline=True)
    assert "'someone/gpt'" in sentence
    assert "offline" in sentence


def test_a_tokenizer_without_the_stop_token_is_refused(tmp_path: Path) -> None:
    lm = language_folder(tmp_path / "speechless")
    words = {f"word{number}": number for number in range(250)} | {"<|endoftext|>": 250}
    Tokenizer(models.WordLevel(words, unk_token="word0")).save(str(lm / "tokenizer.json"))  # noqa: S106
    config = '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}'
    (lm / "tokenizer_config.json").write_text(config)
    path = saved(tmp_path / "weights.pt", state_of("clipcap-mlp"))
    assert "no single token for '.'" in refusal(path, tmp_path / "model", str(lm))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_named_and_not_run(zipped: bool, tmp_path: Path, lm: str) -> None:
    canary = tmp_path / "canary"
    state = {**state_of("clipcap-mlp"), "trap": Trap(canary)}
    torch.save(state, tmp_path / "trap.pt", _use_new_zipfile_serialization=zipped)
    sentence = refusal(tmp_path / "trap.pt", tmp_path / "model", lm)
    assert not canary.exists()
    assert "posix.mkdir" in sentence
    torch.load(tmp_path / "trap.pt", weights_only=False)
    assert canary.exists(), "the trap was none"


def test_a_pickle_without_torch_is_not_run_either(tmp_path: Path, lm: str) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "trap.bin").write_bytes(pickle.dumps({"weights": Trap(canary)}))
    sentence = refusal(tmp_path / "trap.bin", tmp_path / "model", lm)
    assert not canary.exists()
    assert "trap.bin" in sentence


@pytest.mark.parametrize("name", ["weights.pt", "old.pt", "weights.safetensors"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_a_cut_file_is_refused(name: str, part: float, tmp_path: Path, lm: str) -> None:
    state = state_of("clipcap-mlp")
    if name.endswith(".safetensors"):
        save_file({k: v for k, v in state.items() if "lm_head" not in k}, tmp_path / name)
    else:
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=name != "old.pt")
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * part)])
    assert f"{name}' cannot be read" in refusal(tmp_path / name, tmp_path / "model", lm)


def test_no_flipped_byte_of_a_checkpoint_ends_in_a_traceback(tmp_path: Path, lm: str) -> None:
    """Only reading is tried; what a flip inside the numbers gives is a model none can tell."""
    from captioner.importing.checkpoints import read_checkpoint

    chance = torch.Generator().manual_seed(1)
    path, refused = tmp_path / "weights.pt", 0
    for zipped in (True, False):
        torch.save({"a.weight": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
        data = path.read_bytes()
        for _ in range(400):
            place, value = (int(torch.randint(n, (), generator=chance)) for n in (len(data), 256))
            path.write_bytes(data[:place] + bytes([value]) + data[place + 1 :])
            try:
                read_checkpoint(path)
            except ModelError:
                refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "it holds a list, not named tensors"),
        ({}, "it holds a dict, not named tensors"),
        ({"a": torch.ones(2), "b": "text"}, "'b' is no dense tensor"),
        ({"a": torch.ones(2).to_sparse()}, "'a' is no dense tensor"),
        ({"visual.proj": torch.ones(2)}, "of no known family"),
    ],
)
def test_what_is_no_captioning_checkpoint_is_told(
    content: object, message: str, tmp_path: Path, lm: str
) -> None:
    assert message in refusal(saved(tmp_path / "weights.pt", content), tmp_path / "model", lm)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path, lm: str) -> None:
    assert "no checkpoint" in refusal(tmp_path / "nowhere.pt", tmp_path / "model", lm)
    (tmp_path / "folder").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder", tmp_path / "model", lm)
    assert "hf://OWNER" in refusal("s3://bucket/weights.pt", tmp_path / "model", lm)
    assert "hf://OWNER" in refusal("hf://weights.pt", tmp_path / "model", lm)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("RN50x4/openai", "projected embeddings of width 24, but 'RN50x4/openai' gives 640"),
        ("ViT-B-32", "which weights of 'ViT-B-32': ViT-B-32/openai"),
        ("ViT-B-23/openai", "Did you mean ViT-B-32"),
        ("nano", "width 24, but 'nano' gives"),
    ],
)
def test_an_encoder_that_cannot_be_it_is_refused(
    encoder: str, message: str, tmp_path: Path, lm: str
) -> None:
    path = saved(tmp_path / "weights.pt", state_of("clipcap-mlp"))
    assert message in refusal(path, tmp_path / "model", lm, encoder=encoder)


def test_pooled_embeddings_are_as_wide_as_the_tower(tmp_path: Path, lm: str) -> None:
    path = saved(tmp_path / "weights.pt", state_of("clipxgpt"))
    sentence = refusal(path, tmp_path / "model", lm, encoder="ViT-L-14/openai")
    assert "pooled embeddings of width 32, but 'ViT-L-14/openai' gives 1024" in sentence


def test_a_target_that_holds_something_is_left_alone(tmp_path: Path, lm: str) -> None:
    path = saved(tmp_path / "weights.pt", state_of("clipcap-mlp"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "letter").write_text("dear")
    assert "not an empty folder" in refusal(path, tmp_path / "model", lm)
    assert "not an empty folder" in refusal(path, path, lm)
    assert "no new folder in" in refusal(path, path / "model", lm)
    assert "local folder, not" in refusal(path, Path("s3://bucket/model"), lm)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_closed_folder_is_told_before_anything_is_read(tmp_path: Path, lm: str) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "cannot be written" in refusal(tmp_path / "nowhere.pt", tmp_path / "closed" / "model")


def test_a_write_that_fails_late_leaves_nothing(tmp_path: Path, lm: str) -> None:
    """The name of the half-made folder is longer than its own, which only writing finds out."""
    path = saved(tmp_path / "weights.pt", state_of("clipcap-mlp"))
    there = sorted(tmp_path.rglob("*"))
    assert "cannot be written" in refusal(path, tmp_path / "new" / "folder" / ("m" * 250), lm)
    assert sorted(tmp_path.rglob("*")) == there


def test_a_full_disk_leaves_nothing(tmp_path: Path, lm: str) -> None:
    path = saved(tmp_path / "weights.pt", state_of("clipcap-mlp"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # the mapper fits, not the rest
    try:
        assert "cannot be written" in refusal(path, tmp_path / "model", lm)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
