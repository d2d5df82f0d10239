"""The caption model and its directory: what is saved comes back, what does not fit is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import DIM, tiny_encoder_folder, tiny_model

import captioner
from captioner.captions import Captioner
from captioner.configs import EncoderSpec, MapperConfig
from captioner.decoding import Greedy
from captioner.devices import resolve_numerics
from captioner.encoders import load_encoder, spec_of
from captioner.errors import ModelError
from captioner.mappers import MLPMapper, Standardise, build_mapper
from captioner.model import CaptionModel, check_match, load_model
from captioner.presets import load_captioner, model_digest, read_model_config

IMAGES = torch.randn(9, DIM, generator=torch.Generator().manual_seed(5))


def some_model() -> CaptionModel:
    model = tiny_model(seed=2, standardise=True)
    assert isinstance(model.standardise, Standardise)
    model.standardise.set_figures(IMAGES.mean(0), IMAGES.std(0))
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    some_model().save(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_captions_as_before(folder: Path) -> None:
    before = some_model().caption_embeddings(IMAGES)
    loaded = load_model(folder, device="cpu")
    assert loaded.caption_embeddings(IMAGES) == before
    assert loaded.config == some_model().config
    assert len({caption.text for caption in before}) > 1, "equal captions would prove nothing"


def test_equal_models_are_saved_as_equal_bytes(folder: Path, tmp_path: Path) -> None:
    some_model().save(tmp_path / "again")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert [str(file) for file in files] == [
        "config.json",
        "lm/config.json",
        "lm/model.safetensors",
        "mapper.safetensors",
        "tokenizer/tokenizer.json",
    ]
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    assert model_digest(folder) == model_digest(tmp_path / "again")


def test_half_precision_files_keep_the_standardisation_whole(tmp_path: Path) -> None:
    some_model().save(tmp_path / "half", dtype="float16")
    state = load_file(tmp_path / "half" / "mapper.safetensors")
    assert state["mapper.layers.0.weight"].dtype == torch.float16
    assert state["standardise.mean"].dtype == torch.float32
    loaded = load_model(tmp_path / "half", device="cpu")
    assert next(loaded.parameters()).dtype == torch.float32
    full = some_model().prefix(IMAGES)
    assert loaded.prefix(IMAGES).sub(full).abs().max() < 0.01 * full.abs().max()


def test_lower_precision_computes_in_that_precision(folder: Path) -> None:
    loaded = load_model(folder, device="cpu", dtype="bfloat16")
    assert loaded.prefix(IMAGES).dtype == torch.bfloat16
    assert len(loaded.caption_embeddings(IMAGES)) == 9


def test_a_note_beside_the_weights_changes_no_digest_and_a_weight_does(folder: Path) -> None:
    before = model_digest(folder)
    (folder / "training.json").write_text("{}")
    assert model_digest(folder) == before
    state = load_file(folder / "mapper.safetensors")
    state["mapper.layers.0.bias"][0] += 1
    save_file(state, folder / "mapper.safetensors")
    assert model_digest(folder) != before


@pytest.mark.parametrize("file", ["config.json", "lm/config.json", "tokenizer/tokenizer.json"])
def test_every_file_that_decides_captions_is_in_the_digest(folder: Path, file: str) -> None:
    before = model_digest(folder)
    (folder / file).write_text((folder / file).read_text() + " ")
    assert model_digest(folder) != before


def drop_a_weight(folder: Path) -> None:
    state = load_file(folder / "mapper.safetensors")
    del state["mapper.layers.0.bias"]
    save_file(state, folder / "mapper.safetensors")


def add_a_weight(folder: Path) -> None:
    state = load_file(folder / "mapper.safetensors")
    save_file({**state, "mapper.layers.7.bias": torch.zeros(3)}, folder / "mapper.safetensors")


def turn_a_weight(folder: Path) -> None:
    state = load_file(folder / "mapper.safetensors")
    state["mapper.layers.0.weight"] = state["mapper.layers.0.weight"].T.contiguous()
    save_file(state, folder / "mapper.safetensors")


def drop_a_language_weight(folder: Path) -> None:
    state = load_file(folder / "lm" / "model.safetensors")
    del state["transformer.h.1.mlp.c_fc.weight"]
    save_file(state, folder / "lm" / "model.safetensors", metadata={"format": "pt"})


def cut_a_file(folder: Path) -> None:
    data = (folder / "mapper.safetensors").read_bytes()
    (folder / "mapper.safetensors").write_bytes(data[:-10])


def widen_the_tokens(folder: Path) -> None:
    change_config(folder, lambda config: config["mapper"].update(token_dim=48))


def from_the_future(folder: Path) -> None:
    change_config(folder, lambda config: config.update(format=2))


def without_an_encoder(folder: Path) -> None:
    change_config(folder, lambda config: config.pop("encoder"))


def other_mapper(folder: Path) -> None:
    change_config(folder, lambda config: config["mapper"].update(kind="perceiver"))


def wider_encoder(folder: Path) -> None:
    change_config(folder, lambda config: config["encoder"].update(dim=17))


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").unlink()


def change_config(folder: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_a_weight, "does not fit its config.json at: mapper.layers.0.bias"),
        (add_a_weight, "does not fit its config.json at: mapper.layers.7.bias"),
        (turn_a_weight, "does not fit its config.json at: mapper.layers.0.weight"),
        (drop_a_language_weight, "lm' does not fit its config.json.*h.1.mlp.c_fc.weight"),
        (cut_a_file, "mapper.safetensors' cannot be read"),
        (widen_the_tokens, "width 48, but the language model reads 32"),
        (from_the_future, "format 2; this version reads 1"),
        (without_an_encoder, "config.json is not valid: 'encoder'"),
        (other_mapper, "mapper 'perceiver' is not known; use one of: encoder, mlp, transformer"),
        (wider_encoder, "width 16, but the encoder 'tiny' gives 17"),
        (no_tokenizer, "tokenizer.json' cannot be read"),
    ],
)
def test_a_damaged_model_is_refused_in_one_sentence(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nanoo", "Did you mean nano"),
        ("someone/captions-large", "becomes one by nightcap import"),
        ("clipcap-coco", "has no weights here: train them"),
        ("size", "has no weights"),
    ],
)
def test_an_unknown_model_is_named_with_what_comes_near(model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(model)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no model"):
        load_model(tmp_path)


def test_a_model_is_never_written_over_something_else(folder: Path) -> None:
    with pytest.raises(ModelError, match="is not empty"):
        some_model().save(folder)


def test_captions_belong_to_their_own_pictures(folder: Path) -> None:
    """Shifting captions by one row is the error nobody sees in a table."""
    model = load_model(folder, device="cpu")
    together = model.caption_embeddings(IMAGES)
    alone = [model.caption_embeddings(image_C[None])[0] for image_C in IMAGES]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]


def test_pictures_are_captioned_through_the_models_own_encoder(tmp_path: Path) -> None:
    encoder = load_encoder(tiny_encoder_folder(tmp_path / "tower"), device="cpu")
    model = tiny_model(encoder=spec_of(encoder))
    pictures = [Image.new("RGB", (40, 30), colour) for colour in ("red", "black")]
    image_BC = encoder.encode_images(torch.stack([encoder.preprocess(one) for one in pictures]))
    captions = model.caption_images(pictures, encoder=encoder)
    assert captions == model.caption_embeddings(image_BC)
    other = load_encoder(tiny_encoder_folder(tmp_path / "other", seed=1), device="cpu")
    with pytest.raises(ModelError, match="embed with the model's own encoder"):
        model.caption_images(pictures, encoder=other)


@pytest.mark.parametrize(
    "other",
    [
        EncoderSpec(name="b", dim=4),
        EncoderSpec(name="a", dim=5),
        EncoderSpec(name="a", dim=4, feature="pooled"),
        EncoderSpec(name="a", dim=4, normalized=False),
    ],
)
def test_any_difference_of_embeddings_is_refused(other: EncoderSpec) -> None:
    check_match(EncoderSpec(name="a", dim=4), EncoderSpec(name="a", dim=4))
    with pytest.raises(ModelError, match="embed with the model's own encoder"):
        check_match(EncoderSpec(name="a", dim=4), other)


def test_embeddings_of_another_width_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"shape \(B, 16\), got \(2, 5\)"):
        load_model(folder, device="cpu").caption_embeddings(torch.zeros(2, 5))


def test_the_mapper_is_clipcaps() -> None:
    """Linear(C, P*D/2), tanh, Linear(P*D/2, P*D), read as P tokens in order."""
    torch.manual_seed(0)
    mapper = build_mapper(MapperConfig(image_dim=6, token_dim=4, prefix_tokens=3))
    assert isinstance(mapper, MLPMapper)
    first, second = mapper.layers[0], mapper.layers[2]
    assert first.weight.shape == (6, 6)
    image_BC = torch.randn(2, 6)
    by_hand = (image_BC @ first.weight.T + first.bias).tanh() @ second.weight.T + second.bias
    torch.testing.assert_close(mapper(image_BC)[1, 2], by_hand[1, 8:12])


def test_standardised_embeddings_have_mean_0_and_deviation_1_and_still_ones_stay_finite() -> None:
    image_BC = torch.randn(500, 3) * torch.tensor([0.01, 5.0, 0.0]) + 2
    standardise = Standardise(3)
    standardise.set_figures(image_BC.mean(0), image_BC.std(0, correction=0))
    out = standardise(image_BC)
    assert out.mean(0).abs().max() < 1e-3
    assert out.std(0)[:2] == pytest.approx([1, 1], abs=0.01)
    assert out[:, 2].abs().max() == 0


def test_the_fake_captioner_tells_each_pictures_size() -> None:
    fake, encoder = load_captioner("size"), load_encoder("size")
    assert isinstance(fake, Captioner)
    pictures = [Image.new("RGB", size) for size in ((3, 5), (1023, 2049), (20000, 1))]
    pixels = torch.stack([encoder.preprocess(one) for one in pictures])
    image_BC = encoder.encode_images(pixels).half().float()  # as stored
    texts = [row[0].text for row in fake.candidates(image_BC, fake.decoding)]
    assert texts == [f"A picture of {one.width} by {one.height} pixels." for one in pictures]
    check_match(fake.encoder_spec, spec_of(encoder))
    assert read_model_config("size").encoder == fake.encoder_spec


def test_a_real_model_keeps_the_captioner_protocol() -> None:
    assert isinstance(tiny_model(), Captioner)
    assert tiny_model().decoding == Greedy(24, tiny_model().decoding.stop_ids)


def test_numerics_are_resolved_to_plain_facts() -> None:
    numerics = resolve_numerics("cpu", "auto", lanes=1000)
    assert (numerics.dtype, numerics.threads, numerics.batch_size) == ("float32", 1, 64)
    assert resolve_numerics("cpu", "bfloat16", 7).batch_size == 7


@pytest.mark.parametrize(
    ("device", "dtype", "message"),
    [("gpu", "auto", "device 'gpu' is not known"), ("cpu", "int3", "dtype 'int3' is not known")],
)
def test_unknown_numerics_are_named(device: str, dtype: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolve_numerics(device, dtype)


def test_every_public_name_of_the_package_exists() -> None:
    for name in captioner.__all__:
        assert getattr(captioner, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        _ = captioner.nothing
