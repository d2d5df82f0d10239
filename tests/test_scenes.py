"""Drawn scenes: what is said of them can be checked, and what is drawn of them repeats."""

import random
import time
from dataclasses import replace

import pytest
from PIL import ImageChops, ImageStat

from captioner import scenes
from captioner.scenes import Ground, Group, ParseError, Scene
from captioner.scenes.language import GROUND_WORDS, GROUP_WORDS, POSITIONS, RELATIONS

CIRCLES = Group(count=2, size="small", texture="striped", colour="red", shape="circle")
CROSS = Group(count=1, size="large", texture="plain", colour="blue", shape="cross")
GROUND = Ground(pattern="lined", colour="gray")
SINGLE = Scene(groups=(CIRCLES,), layout="top left", ground=GROUND)
PAIR = Scene(groups=(CIRCLES, CROSS), layout="left of", ground=GROUND)
SAID_OF_SINGLE = "two small striped red circles in the top left corner on a lined gray background"
SAID_OF_PAIR = (
    "two small striped red circles to the left of a large plain blue cross"
    " on a lined gray background"
)


def test_every_phrasing_states_its_scene_completely_and_truly() -> None:
    for seed, scene in enumerate(scenes.sample(500, seed=3)):
        for caption in scenes.captions(scene, n=5, seed=seed):
            assert scenes.mistakes(caption, scene) == (), (caption, scene)


def test_no_phrasing_of_a_scene_is_true_of_a_near_miss() -> None:
    rng = random.Random(5)
    for seed, scene in enumerate(scenes.sample(500, seed=4)):
        near = scenes.near(scene, rng)
        for caption in scenes.captions(scene, n=2, seed=seed):
            assert not scenes.attribute_true(caption, near), (caption, near)


def test_five_captions_are_five_different_sentences() -> None:
    for scene in scenes.sample(50, seed=6):
        assert len(set(scenes.captions(scene, n=5, seed=1))) == 5
    assert scenes.captions(SINGLE, seed=1) == scenes.captions(SINGLE, seed=1)


@pytest.mark.parametrize("attribute", GROUP_WORDS)
@pytest.mark.parametrize("which", [0, 1])
def test_a_wrong_word_about_either_group_is_named(attribute: str, which: int) -> None:
    group = PAIR.groups[which]
    words = GROUP_WORDS[attribute]
    other = next(word for word in words if word != getattr(group, attribute))
    groups = list(PAIR.groups)
    groups[which] = replace(group, **{attribute: other})
    truth = replace(PAIR, groups=tuple(groups))
    name = f"{('first', 'second')[which]} {attribute}"
    assert scenes.mistakes(SAID_OF_PAIR, PAIR) == ()
    assert scenes.mistakes(SAID_OF_PAIR, truth) == (name,)


@pytest.mark.parametrize("attribute", GROUND_WORDS)
def test_a_wrong_word_about_the_background_is_named(attribute: str) -> None:
    other = GROUND_WORDS[attribute][0]
    truth = replace(SINGLE, ground=replace(GROUND, **{attribute: other}))
    assert scenes.mistakes(SAID_OF_SINGLE, truth) == (f"ground {attribute}",)


@pytest.mark.parametrize("position", [p for p in POSITIONS if p != "top left"])
def test_a_wrong_position_is_false(position: str) -> None:
    assert scenes.mistakes(SAID_OF_SINGLE, replace(SINGLE, layout=position)) == ("layout",)


def test_a_wrong_relation_is_false() -> None:
    assert scenes.mistakes(SAID_OF_PAIR, replace(PAIR, layout="above")) == ("layout",)
    turned = replace(PAIR, groups=PAIR.groups[::-1])
    assert not scenes.attribute_true(SAID_OF_PAIR, turned)


@pytest.mark.parametrize(
    ("left_out", "name"),
    [
        ("two ", "first count"),
        ("small ", "first size"),
        ("striped ", "first texture"),
        ("red ", "first colour"),
        ("lined ", "ground pattern"),
        ("gray ", "ground colour"),
        (" in the top left corner", "layout"),
    ],
)
def test_leaving_an_attribute_out_is_a_mistake(left_out: str, name: str) -> None:
    assert scenes.mistakes(SAID_OF_SINGLE.replace(left_out, ""), SINGLE) == (name,)


def test_leaving_the_background_or_a_group_out_is_a_mistake() -> None:
    bare = SAID_OF_SINGLE.removesuffix(" on a lined gray background")
    assert scenes.mistakes(bare, SINGLE) == ("ground pattern", "ground colour")
    assert scenes.mistakes("a large plain blue cross on a lined gray background", PAIR) == (
        "groups",
    )


@pytest.mark.parametrize(
    "things",
    [
        "a large plain blue cross right of two small striped red circles",
        "two red small circles with stripes left of one blue cross that is plain and large",
        "a blue large cross that is plain on the right, two small striped red circles on the left",
        "on the left two small striped red circles, on the right a large plain blue cross",
    ],
)
@pytest.mark.parametrize("place", ["{} on a gray lined background", "a lined gray background, {}"])
def test_any_word_order_of_the_grammar_is_understood(things: str, place: str) -> None:
    assert scenes.attribute_true(place.format(things), PAIR)


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a photo of a dog",
        "two small striped red circle in the top left corner on a lined gray background",
        "two small striped red blue circles in the top left corner on a lined gray background",
        "two small striped red circles at the upper left at the top on a lined gray background",
        "two small striped red circles in the top left corner on a striped gray background",
        "two small striped red circles in the top left corner on a lined gray",
        SAID_OF_SINGLE + " on a lined gray background",
        SAID_OF_SINGLE + " maybe",
        SAID_OF_PAIR + " above",
    ],
)
def test_what_the_grammar_does_not_know_is_refused_and_never_true(caption: str) -> None:
    with pytest.raises(ParseError):
        scenes.parse(caption)
    assert scenes.mistakes(caption, SINGLE) == ("grammar",)


def test_distinct_scenes_have_distinct_descriptions() -> None:
    chosen = scenes.sample(20_000, seed=8)
    assert len({scenes.describe(scene) for scene in chosen}) == len(set(chosen)) == 20_000


def test_training_and_held_out_scenes_never_meet() -> None:
    training, unseen = scenes.sample(5_000, seed=9), scenes.sample(1_000, seed=9, held_out=True)
    assert not set(training) & set(unseen)
    assert all(map(scenes.is_held_out, unseen))
    assert not any(map(scenes.is_held_out, training))


def test_sampling_repeats_by_seed_and_covers_every_word() -> None:
    chosen = scenes.sample(2_000, seed=10)
    assert chosen == scenes.sample(2_000, seed=10) != scenes.sample(2_000, seed=11)
    groups = [group for scene in chosen for group in scene.groups]
    for attribute, words in GROUP_WORDS.items():
        assert {getattr(group, attribute) for group in groups} == set(words)
    assert {scene.layout for scene in chosen} == {*POSITIONS, *RELATIONS}


def test_a_drawing_repeats_by_seed_and_differs_by_seed() -> None:
    drawn = scenes.draw(PAIR, size=96, seed=1)
    assert (drawn.mode, drawn.size) == ("RGB", (96, 96))
    assert drawn.tobytes() == scenes.draw(PAIR, size=96, seed=1).tobytes()
    assert drawn.tobytes() != scenes.draw(PAIR, size=96, seed=2).tobytes()


@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_near_miss_looks_different_at_every_size(size: int) -> None:
    rng = random.Random(12)
    for scene in scenes.sample(40, seed=12):
        pictures = [scenes.draw(s, size=size, seed=3) for s in (scene, scenes.near(scene, rng))]
        assert max(ImageStat.Stat(ImageChops.difference(*pictures)).extrema)[1] > 30


def test_every_scene_fits_its_frame_and_can_be_drawn() -> None:
    for seed, scene in enumerate(scenes.sample(1_000, seed=13)):
        assert scenes.draw(scene, size=64, seed=seed).size == (64, 64)
    with pytest.raises(ValueError, match="at least"):
        scenes.draw(SINGLE, size=8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"layout": "left of"},
        {"groups": ()},
        {"groups": (CIRCLES, CIRCLES), "layout": "above"},
        {"groups": (replace(CIRCLES, count=3), CROSS), "layout": "above"},
    ],
)
def test_a_scene_that_cannot_be_drawn_cannot_be_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must be|differ|one or two"):
        replace(SINGLE, **wrong)
    with pytest.raises(ValueError, match="colour must be one of"):
        replace(CROSS, colour="mauve")


def test_drawing_keeps_up_with_training() -> None:
    """Training draws its own pictures as it goes; slow drawing would starve it."""
    chosen = scenes.sample(256, seed=14)
    for round_ in range(8):  # fills the cache of stencils
        [scenes.draw(scene, size=64, seed=round_) for scene in chosen]
    started = time.process_time()
    [scenes.draw(scene, size=64, seed=99) for scene in chosen]
    assert time.process_time() - started < 0.5
