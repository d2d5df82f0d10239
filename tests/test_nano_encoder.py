"""nano's encoder: its lessons, its files, and what the shipped one can do."""

from dataclasses import asdict
from itertools import islice
from pathlib import Path

import pytest
import torch

from captioner import scenes
from captioner.encoders import load_encoder
from captioner.nano import CAPTIONER, ENCODER, train_encoder
from captioner.nano.lessons import ABSENT, ATTRIBUTES, Lesson, examination, lessons
from captioner.nano.tokens import END, LARGEST, START, token_ids, train_tokenizer
from captioner.nano.towers import IMAGE_SIZE, Pupil, save
from captioner.scenes import Ground, Group, Scene


def said(caption: str) -> Scene:
    claims = scenes.parse(caption)
    return Scene(
        groups=tuple(Group(**group) for group in claims.groups),
        layout=claims.layout,
        ground=Ground(**claims.ground),
    )


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    return next(lessons(64, IMAGE_SIZE, seed=1))


def test_lessons_repeat_by_seed(lesson: Lesson) -> None:
    again, other = next(lessons(64, IMAGE_SIZE, seed=1)), next(lessons(64, IMAGE_SIZE, seed=2))
    assert again.captions == lesson.captions != other.captions
    assert again.pixels.equal(lesson.pixels)
    assert not again.pixels.equal(other.pixels)


def test_no_lesson_shows_a_held_out_scene_and_every_examination_does() -> None:
    taught = [c for lesson in islice(lessons(64, 32, seed=3), 4) for c in lesson.captions]
    assert not any(scenes.is_held_out(said(caption)) for caption in taught)
    assert all(scenes.is_held_out(said(c)) for c in examination(50, 32, seed=3).captions)


def test_the_labels_of_a_lesson_are_what_its_captions_say(lesson: Lesson) -> None:
    for caption, labels in zip(lesson.captions, lesson.labels.tolist(), strict=True):
        scene = said(caption)
        told = {"layout": scene.layout}
        for which, group in zip(("first", "second"), scene.groups, strict=False):
            told |= {f"{which} {name}": word for name, word in asdict(group).items()}
        told |= {f"ground {name}": word for name, word in asdict(scene.ground).items()}
        read = {
            name: words[label]
            for (name, words), label in zip(ATTRIBUTES.items(), labels, strict=True)
            if label != ABSENT
        }
        assert read == told


def test_a_lesson_knows_which_group_stands_where(lesson: Lesson) -> None:
    pairs = [i for i, caption in enumerate(lesson.captions) if len(said(caption).groups) == 2]
    for index in pairs:
        layout, owners_GG = said(lesson.captions[index]).layout, lesson.owners[index]
        if layout == "left of":
            owners_GG = owners_GG.T
        assert set(owners_GG[:3].unique().tolist()) <= {0, ABSENT}
        assert set(owners_GG[5:].unique().tolist()) <= {1, ABSENT}
        assert {0, 1} <= set(owners_GG.unique().tolist())


def test_the_vocabulary_covers_any_text_and_ends_with_its_marks() -> None:
    tokenizer = train_tokenizer()
    size = tokenizer.get_vocab_size()
    assert 256 < size <= LARGEST
    assert (tokenizer.token_to_id(START), tokenizer.token_to_id(END)) == (size - 2, size - 1)
    for text in ("three small striped red hearts", "naïve 猫 🐈 \x00"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    ids_BT = token_ids(tokenizer, ["a " * 100, "a circle"], 48)
    assert ids_BT.shape == (2, 48)
    assert ids_BT[0, -1] == size - 1
    assert train_tokenizer().to_str() == tokenizer.to_str()


def test_what_is_saved_sees_and_hears_as_what_was_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer, exam = train_tokenizer(), examination(8, IMAGE_SIZE, seed=4)
    pupil = Pupil(tokenizer.get_vocab_size()).eval()
    save(pupil.towers, tokenizer, tmp_path, {})
    encoder = load_encoder(tmp_path, device="cpu")
    ids_BT = token_ids(tokenizer, exam.captions, 48)
    with torch.inference_mode():
        image_BC, _ = pupil.see(exam.pixels)
        cosine_B = torch.cosine_similarity(pupil.hear(ids_BT), encoder.encode_texts(exam.captions))
        assert cosine_B.min() > 0.999
        mean, std = 0.5, 0.3
        pixels_BCHW = (exam.pixels.permute(0, 3, 1, 2) / 255 - mean) / std
        seen_BC = encoder.encode_images(pixels_BCHW)
        assert torch.cosine_similarity(image_BC, seen_BC).min() > 0.999


def test_a_tower_that_fails_its_examination_is_not_written(tmp_path: Path) -> None:
    folder = tmp_path / "tower"
    assert train_encoder.main(["--out", str(folder), "--steps", "1", "--device", "cpu"]) == 1
    assert not folder.exists()


@pytest.mark.parametrize("size", [64, 128])
def test_the_shipped_encoder_finds_each_unseen_pictures_caption_among_200(size: int) -> None:
    chosen = scenes.sample(200, seed=77 + size, held_out=True)
    encoder = load_encoder("nano", device="cpu")
    pictures = [scenes.draw(scene, size=size, seed=at) for at, scene in enumerate(chosen)]
    image_BC = encoder.encode_images(torch.stack([encoder.preprocess(one) for one in pictures]))
    text_BC = encoder.encode_texts([scenes.captions(s, 1, at)[0] for at, s in enumerate(chosen)])
    nearest_B = (image_BC @ text_BC.T).argmax(dim=1)
    assert (nearest_B == torch.arange(200)).float().mean() >= 0.95


def test_the_shipped_weights_stay_small() -> None:
    files = [file for folder in (ENCODER, CAPTIONER) for file in folder.rglob("*")]
    assert sum(file.stat().st_size for file in files if file.is_file()) <= 12_000_000
