"""Encoders by name: the packaged one, folders, open_clip's, and the weightless fake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_models import DIM, tiny_encoder_folder

from captioner.encoders import Encoder, check_encoder, encoder_digest, load_encoder, spec_of
from captioner.errors import ModelError
from captioner.scoring import clip_similarities


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_encoder_folder(tmp_path / "tower")


def picture(seed: int, size: tuple[int, int] = (50, 40)) -> Image.Image:
    noise = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.manual_seed(seed))
    return Image.fromarray(noise.to(torch.uint8).numpy())


def embed(encoder: Encoder, pictures: list[Image.Image]) -> torch.Tensor:
    return encoder.encode_images(torch.stack([encoder.preprocess(one) for one in pictures]))


@pytest.mark.parametrize("name", ["nano", "size", "folder"])
def test_every_encoder_keeps_the_protocol(name: str, folder: Path) -> None:
    encoder = load_encoder(folder if name == "folder" else name, device="cpu")
    assert isinstance(encoder, Encoder)
    image_BC = embed(encoder, [picture(1), picture(2), picture(3)])
    assert image_BC.shape == (3, encoder.dim)
    assert image_BC.dtype == torch.float32
    assert torch.isfinite(image_BC).all()
    if encoder.normalized:
        assert image_BC.norm(dim=-1) == pytest.approx([1.0, 1.0, 1.0], abs=1e-5)
    text_BC = encoder.encode_texts(["a red circle", "", "é" * 500])
    assert text_BC.shape == (3, encoder.dim)
    assert text_BC.norm(dim=-1) == pytest.approx([1.0, 1.0, 1.0], abs=1e-5)
    assert embed(encoder, [picture(1)]).equal(embed(encoder, [picture(1)]))


def test_nano_tells_its_own_pictures_apart() -> None:
    """A red picture's embedding is nearer to its own words than a picture of something else is."""
    from captioner import scenes

    chosen = scenes.sample(20, 5, held_out=True)
    encoder = load_encoder("nano", device="cpu")
    image_BC = embed(encoder, [scenes.draw(scene, seed=at) for at, scene in enumerate(chosen)])
    texts = [scenes.captions(scene, 1, at)[0] for at, scene in enumerate(chosen)]
    right = clip_similarities(encoder, texts, image_BC)
    wrong = clip_similarities(encoder, texts[1:] + texts[:1], image_BC)
    assert sum(mine > other for mine, other in zip(right, wrong, strict=True)) >= 19


def test_a_score_is_the_cosine_of_caption_and_picture_of_the_same_row() -> None:
    encoder = load_encoder("size")
    pictures = [picture(0, (30, 20)), picture(0, (400, 20)), picture(0, (30, 700))]
    image_BC = embed(encoder, pictures)
    texts = [f"{one.width} by {one.height}" for one in pictures]
    assert clip_similarities(encoder, texts, image_BC, batch_size=2) == pytest.approx([1, 1, 1])
    shifted = clip_similarities(encoder, texts[1:] + texts[:1], image_BC)
    assert max(shifted) < 0.999
    with pytest.raises(ModelError, match="2 texts"):
        clip_similarities(encoder, texts[:2], image_BC)


def test_pictures_are_scored_by_direction_and_not_by_length(folder: Path) -> None:
    encoder = load_encoder(folder, device="cpu")
    image_BC = embed(encoder, [picture(1), picture(2)])
    long = clip_similarities(encoder, ["a", "b"], image_BC * 7)
    assert long == pytest.approx(clip_similarities(encoder, ["a", "b"], image_BC), abs=1e-6)


def test_a_folder_is_named_after_its_content(tmp_path: Path) -> None:
    """Two towers may not take each other's embeddings, whatever their folders are called."""
    first, second = (
        tiny_encoder_folder(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 1))
    )
    names = {load_encoder(folder, device="cpu").name for folder in (first, second)}
    assert len(names) == 2
    assert all(name.startswith("tiny@") for name in names)
    assert spec_of(load_encoder(first, device="cpu")).dim == DIM
    with pytest.raises(ModelError, match="give its folder instead"):
        load_encoder(names.pop())


def test_a_digest_changes_with_any_file_and_with_nothing_else(folder: Path) -> None:
    before = encoder_digest(folder)
    (folder / "README.md").write_text("a note")
    assert encoder_digest(folder) == before
    config = json.loads((folder / "config.json").read_text())
    config["normalized"] = False
    (folder / "config.json").write_text(json.dumps(config))
    assert encoder_digest(folder) != before
    assert encoder_digest("ViT-B-32/openai") != encoder_digest("ViT-B-32/laion2b_s34b_b79k")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nanno", "Did you mean nano"),
        ("ViT-B-23", "Did you mean ViT-B-32"),
        ("/no/such/folder", "neither nano, nor a folder"),
        ("ViT-B-32/laion", "no weights 'laion'; some that it has: laion"),
        ("ViT-B-32/openai", "may not be fetched offline"),
        ("RN50", "may not be fetched offline"),
    ],
)
def test_an_encoder_that_cannot_be_had_is_named(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_encoder(name, device="cpu", offline=True)


def break_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    "damage", ["format", "weights", "no weights", "shape", "tokenizer", "json"]
)
def test_a_damaged_folder_is_one_sentence(folder: Path, damage: str) -> None:
    if damage == "format":
        break_config(folder, format=7)
    elif damage == "weights":
        (folder / "model.safetensors").write_bytes(b"not weights")
    elif damage == "no weights":
        (folder / "model.safetensors").unlink()
    elif damage == "shape":
        config = json.loads((folder / "config.json").read_text())
        break_config(folder, model_cfg={**config["model_cfg"], "embed_dim": 8})
    elif damage == "tokenizer":
        (folder / "tokenizer.json").write_text("{}")
    else:
        (folder / "config.json").write_text("{")
    with pytest.raises(ModelError) as caught:
        load_encoder(folder, device="cpu")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_names_and_digests_need_no_torch() -> None:
    """The command line answers what is done without loading torch."""
    code = (
        "import sys, captioner\n"
        "from captioner.encoders import check_encoder, encoder_digest\n"
        "from captioner.presets import model_digest, read_model_config\n"
        "from captioner.recipes import find_recipe\n"
        "from captioner.devices import resolve_numerics\n"
        "check_encoder('ViT-B-32'), encoder_digest('nano'), model_digest('nano')\n"
        "read_model_config('nano').to_json(), find_recipe('nano')\n"
        "resolve_numerics('cpu')\n"
        "assert not {'torch', 'transformers', 'open_clip'} & set(sys.modules), 'heavy import'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_known_name_passes_the_check_without_weights() -> None:
    for name in ("nano", "size", "ViT-B-32", "ViT-B-32/openai", "RN50"):
        check_encoder(name)


def test_the_hubs_commit_of_weights_is_read_off_their_place() -> None:
    from captioner.open_clip_encoder import hub_revision

    place = Path("/cache/hub/models--a--b/snapshots/0a1b2c/open_clip_model.safetensors")
    assert hub_revision(place) == "0a1b2c"
    assert hub_revision(Path("/cache/clip/ViT-B-32.pt")) == ""
