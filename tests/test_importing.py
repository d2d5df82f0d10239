"""Every family of checkpoint becomes a model that computes what its own code computes."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from foreign_checkpoints import (
    KINDS,
    POSITIONS,
    C,
    D,
    K,
    P,
    State,
    clipcap_mlp,
    clipcap_transformer,
    language_folder,
    language_network,
    state_of,
)
from safetensors.torch import load_file, save_file
from tiny_models import tiny_tokenizer

from captioner.configs import EncoderSpec, Opening, Wording
from captioner.decoding import Beam, Greedy
from captioner.folder_encoder import END
from captioner.importing.convert import Imported, ImportOptions, import_checkpoint
from captioner.model import CaptionModel, load_model

STOP, END_ID = tiny_tokenizer().token_to_id("."), tiny_tokenizer().token_to_id(END)


@pytest.fixture
def lm(tmp_path: Path) -> str:
    return str(language_folder(tmp_path / "tiny-gpt2"))


def imported(folder: Path, lm: str, source: Path | str) -> tuple[CaptionModel, Imported]:
    done = import_checkpoint(str(source), folder / "model", ImportOptions(lm=lm))
    return load_model(folder / "model", device="cpu"), done


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def check_same(model: CaptionModel, kind: str, state: State) -> None:
    """The model's mapper and language model compute what the checkpoint's own code would."""
    _, plain, prefix, dim = KINDS[kind]
    image_BC = torch.randn(7, dim, generator=torch.Generator().manual_seed(3))
    state = {key: value.float() for key, value in state.items()}
    torch.testing.assert_close(model.prefix(image_BC), plain(state, image_BC), atol=1e-5, rtol=1e-5)
    network = language_network(seed=9)
    network.load_state_dict(
        {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    )
    inputs = torch.randn(2, 6, D)
    torch.testing.assert_close(
        model.language.logits(inputs, 6), network(inputs_embeds=inputs).logits, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_imported_model_computes_what_the_original_does(
    kind: str, tmp_path: Path, lm: str
) -> None:
    state = state_of(kind)
    model, done = imported(tmp_path, lm, saved(tmp_path / "weights.pt", state))
    assert kind.startswith(done.family)
    check_same(model, kind, state)
    captions = model.caption_embeddings(torch.randn(6, KINDS[kind][3]))
    assert len({str(caption) for caption in captions}) > 1


FAMILIES = {
    "clipcap-mlp": ("projected", False, Beam(67, (STOP,), mode="clipcap"), Opening()),
    "clipcap-transformer": ("projected", True, Beam(67, (STOP,), mode="clipcap"), Opening()),
    "clipcap-reimplemented": ("projected", False, Greedy(12, (END_ID,)), Opening()),
    "clipxgpt": (
        "pooled",
        False,
        Greedy(40, (END_ID,)),
        Opening(kind="clipxgpt", bos_id=END_ID),
    ),
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_each_family_keeps_its_own_way_of_reading_and_writing(
    kind: str, tmp_path: Path, lm: str
) -> None:
    feature, normalized, decoding, opening = FAMILIES[kind]
    model, _ = imported(tmp_path, lm, saved(tmp_path / "weights.pt", state_of(kind)))
    dim = KINDS[kind][3]
    assert model.encoder_spec == EncoderSpec(
        name="", dim=dim, feature=feature, normalized=normalized
    )
    assert (model.config.decoding, model.config.opening) == (decoding, opening)
    clipcap, clipxgpt = kind in ("clipcap-mlp", "clipcap-transformer"), kind == "clipxgpt"
    assert model.config.wording == Wording(keep_stop=clipcap, capital=clipxgpt, drop_cut=clipxgpt)


def test_sizes_are_read_off_the_tensors(tmp_path: Path, lm: str) -> None:
    state = state_of("clipcap-transformer")
    model, _ = imported(tmp_path, lm, saved(tmp_path / "weights.pt", state))
    mapper = model.config.mapper
    found = (mapper.image_dim, mapper.token_dim, mapper.prefix_tokens, mapper.clip_length)
    assert found == (C, D, P, K)
    assert (mapper.layers, mapper.heads, mapper.feedforward) == (2, 8, 2)


def test_a_hidden_layer_of_another_width_is_read_off_the_tensors(tmp_path: Path, lm: str) -> None:
    state = state_of("clipcap-mlp")
    state["clip_project.model.0.weight"] = torch.randn(20, C)
    state["clip_project.model.0.bias"] = torch.randn(20)
    state["clip_project.model.2.weight"] = torch.randn(P * D, 20)
    model, _ = imported(tmp_path, lm, saved(tmp_path / "weights.pt", state))
    assert model.config.mapper.hidden_dim == 20
    check_same(model, "clipcap-mlp", state)


def in_parallel(state: State) -> object:
    return {f"module.{key}": value for key, value in state.items()}


def as_clipxgpt_saves(state: State) -> object:
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(2)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "model_state_dict": state,
        "optimizer_state_dict": optimizer.state_dict(),
        "tloss": [0.5],
    }


def as_lightning_saves(state: State) -> object:
    return {
        "state_dict": {f"model.module.{key}": value for key, value in state.items()},
        "global_step": 5,
    }


@pytest.mark.parametrize("wrap", [in_parallel, as_clipxgpt_saves, as_lightning_saves])
def test_what_training_wrapped_around_the_weights_is_taken_off(
    wrap: Callable[[State], object], tmp_path: Path, lm: str
) -> None:
    state = state_of("clipxgpt")
    model, done = imported(tmp_path, lm, saved(tmp_path / "checkpoint.pth", wrap(state)))
    check_same(model, "clipxgpt", state)
    if wrap is as_clipxgpt_saves:
        assert done.notes["left_out"] == ["epoch", "optimizer_state_dict", "tloss"]


def test_files_from_before_torch_zipped_them_are_read(tmp_path: Path, lm: str) -> None:
    state = state_of("clipcap-mlp")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    model, _ = imported(tmp_path, lm, tmp_path / "old.pt")
    check_same(model, "clipcap-mlp", state)


def test_safetensors_are_read(tmp_path: Path, lm: str) -> None:
    state = state_of("clipcap-mlp")
    del state["gpt.lm_head.weight"]  # as safetensors are saved: shared weights once
    save_file(state, tmp_path / "model.safetensors")
    model, done = imported(tmp_path, lm, tmp_path / "model.safetensors")
    assert "tied output layer" not in done.notes["set_aside"]
    check_same(model, "clipcap-mlp", state | {"gpt.lm_head.weight": _tokens(state)})


def _tokens(state: State) -> torch.Tensor:
    return state["gpt.transformer.wte.weight"]


def test_half_precision_stays_half_on_disk_and_loses_nothing(tmp_path: Path, lm: str) -> None:
    state = {key: value.half() for key, value in state_of("clipcap-transformer").items()}
    model, done = imported(tmp_path, lm, saved(tmp_path / "half.bin", state))
    assert done.notes["dtype"] == "float16"
    check_same(model, "clipcap-transformer", state)
    whole = sum(value.numel() * 2 for value in state.values())
    kept = [tmp_path / "model" / name for name in ("lm/model.safetensors", "mapper.safetensors")]
    assert sum(path.stat().st_size for path in kept) < 1.2 * whole


def test_dead_buffers_are_dropped_and_the_frozen_encoder_is_only_noted(
    tmp_path: Path, lm: str
) -> None:
    state = state_of("clipxgpt", old=True)
    state["ie.model.post_layernorm.weight"] = torch.ones(D)
    state["ie.model.embeddings.position_ids"] = torch.arange(5)
    _, done = imported(tmp_path, lm, saved(tmp_path / "weights.pt", state))
    assert done.notes["set_aside"] == {
        "causal mask buffers": 4,
        "frozen image encoder": 2,
        "tied output layer": 1,
    }


@pytest.mark.parametrize("mapper", [clipcap_mlp, clipcap_transformer])
def test_a_mapper_alone_gets_the_weights_of_the_language_model_it_names(
    mapper: Callable[[], State], tmp_path: Path
) -> None:
    """ClipCap's frozen variant trains no more than that."""
    torch.manual_seed(1)
    lm = language_folder(tmp_path / "frozen", weights=True, seed=4)
    model, done = imported(tmp_path, str(lm), saved(tmp_path / "mapper.pt", mapper()))
    assert done.notes["language_model"]["weights"] == "its own"
    inputs = torch.randn(2, 6, D)
    expected = language_network(seed=4)(inputs_embeds=inputs).logits
    torch.testing.assert_close(model.language.logits(inputs, 6), expected, atol=1e-4, rtol=1e-4)


def test_no_file_names_the_place_of_a_local_language_model(tmp_path: Path) -> None:
    torch.manual_seed(1)
    lm = language_folder(tmp_path / "frozen", weights=True)
    imported(tmp_path, str(lm), saved(tmp_path / "mapper.pt", clipcap_mlp()))
    for file in (tmp_path / "model").rglob("*.json"):
        assert str(tmp_path) not in file.read_text()


def test_the_notes_tell_where_a_model_came_from_and_no_place_on_this_machine(
    tmp_path: Path, lm: str
) -> None:
    path = saved(tmp_path / "weights.pt", state_of("clipcap-mlp"))
    imported(tmp_path, lm, path)
    notes = json.loads((tmp_path / "model" / "training.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    size = path.stat().st_size
    assert notes["checkpoint"] == {"file": "weights.pt", "bytes": size, "sha256": digest}
    assert notes["language_model"]["name"] == "tiny-gpt2"
    for file in (tmp_path / "model").rglob("*.json"):
        assert str(tmp_path) not in file.read_text()


def test_the_table_that_gpt2_uses_twice_is_kept_once(tmp_path: Path, lm: str) -> None:
    imported(tmp_path, lm, saved(tmp_path / "weights.pt", state_of("clipcap-mlp")))
    kept = load_file(tmp_path / "model" / "lm" / "model.safetensors")
    assert len({"transformer.wte.weight", "lm_head.weight"} & kept.keys()) == 1


def test_equal_checkpoints_are_imported_as_equal_bytes(tmp_path: Path, lm: str) -> None:
    path = saved(tmp_path / "weights.pt", state_of("clipxgpt"))
    for name in ("first", "second"):
        import_checkpoint(str(path), tmp_path / name, ImportOptions(lm=lm))
    first = {p.relative_to(tmp_path / "first"): p for p in (tmp_path / "first").rglob("*.*")}
    for name, file in first.items():
        assert file.read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_captions_are_never_longer_than_the_positions_allow(tmp_path: Path) -> None:
    state = state_of("clipcap-mlp")
    state["gpt.transformer.wpe.weight"] = state["gpt.transformer.wpe.weight"][:20]
    lm = language_folder(tmp_path / "short", n_positions=20)
    model, _ = imported(tmp_path, str(lm), saved(tmp_path / "weights.pt", state))
    assert model.config.decoding.max_tokens == 20 - P < POSITIONS
    assert len(model.caption_embeddings(torch.randn(2, C))) == 2


def test_an_encoder_that_is_named_is_kept_with_what_was_said_of_its_length(
    tmp_path: Path, lm: str
) -> None:
    torch.manual_seed(1)
    state = clipcap_mlp() | {"clip_project.model.0.weight": torch.randn(P * D // 2, 512)}
    whole = state_of("clipcap-mlp") | state
    path = saved(tmp_path / "weights.pt", whole)
    options = ImportOptions(lm=lm, encoder="ViT-B-32/openai", normalized=True)
    done = import_checkpoint(str(path), tmp_path / "model", options)
    assert done.config.encoder == EncoderSpec(name="ViT-B-32/openai", dim=512)
    assert done.suggested_encoder == "ViT-B-32/openai"
