"""The packaged captioner: what it must do on scenes nobody showed it, and that it can be remade."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import captioner
from captioner.encoders import load_encoder, spec_of
from captioner.model import CaptionModel, check_match, load_model
from captioner.nano import HERE
from captioner.nano.train_captioner import attribute_share, main
from captioner.presets import PRESETS
from captioner.scenes import attribute_true, draw, sample

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def model() -> CaptionModel:
    return load_model("nano", device="cpu")


def test_nano_says_every_attribute_of_unseen_scenes_and_each_rightly(model: CaptionModel) -> None:
    assert attribute_share(model, load_encoder("nano", device="cpu"), 300, seed=77) >= 0.95


def test_nano_reads_its_own_encoders_embeddings(model: CaptionModel) -> None:
    check_match(model.encoder_spec, spec_of(load_encoder("nano", device="cpu")))


def test_pictures_of_any_size_are_captioned_by_name_alone() -> None:
    scenes = sample(12, 3, held_out=True)
    pictures = [draw(scene, size=96 + 24 * at, seed=at) for at, scene in enumerate(scenes)]
    captions = captioner.load_model("nano").caption_images(pictures)
    judged = zip(captions, scenes, strict=True)
    assert sum(attribute_true(caption.text, scene) for caption, scene in judged) >= 11


def test_a_picture_nano_does_not_know_still_gets_a_caption_that_ends(model: CaptionModel) -> None:
    torch.manual_seed(0)
    noise = torch.randint(0, 256, (40, 60, 3), dtype=torch.uint8).numpy()
    captions = model.caption_images([Image.fromarray(noise), Image.new("RGB", (5, 9))])
    assert all(caption.text for caption in captions)
    assert all(caption.n_tokens < model.decoding.max_tokens for caption in captions)


def test_the_packaged_weights_stay_small() -> None:
    files = [path for path in HERE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12 * MEGABYTE
    assert not [path for path in files if path.suffix in (".pt", ".bin", ".pkl")]
    assert set(PRESETS) == {"nano", "size"}


def test_the_script_that_made_it_makes_a_model_again(tmp_path: Path) -> None:
    settings = ["--steps", "4", "--scenes", "60", "--threads", "1", "--exam", "9", "--goal", "0"]
    for name in ("one", "two"):
        assert main(["--out", str(tmp_path / name), *settings]) == 0
    weights = Path("lm") / "model.safetensors"
    one, two = ((tmp_path / name / weights).read_bytes() for name in ("one", "two"))
    assert one == two
    assert load_model(tmp_path / "one", device="cpu").encoder_spec.name == "nano"
    assert main(["--out", str(tmp_path / "bad"), *settings[:-1], "1"]) == 1
