"""Training: what it learns from, that it repeats, that it resumes, that it holds out pictures."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import DIM, tiny_model, tiny_tokenizer
from torch import nn
from torch.nn import functional

from captioner.beginnings import begin
from captioner.checkpoints import LocalCheckpoints, MemoryCheckpoints, pack, unpack
from captioner.configs import EncoderSpec
from captioner.decoding import Greedy
from captioner.errors import ModelError
from captioner.examples import Batch, ExampleFile, write_examples
from captioner.folder_encoder import END
from captioner.losses import caption_loss
from captioner.model import CaptionModel
from captioner.recipes import RECIPES, FreshModel, Recipe, find_recipe, recipe_from_json
from captioner.training import Progress, TrainingResult, train
from captioner.visits import Visits

WORDS = ["red", "blue", "green", "grey", "pink", "gold", "teal", "plum", "rust", "jade"]
TOKENIZER = tiny_tokenizer()
RECIPE = Recipe(
    name="test",
    min_steps=24,
    epochs=1,
    batch_size=8,
    validate_every=6,
    learning_rate=3e-3,
    warmup_steps=4,
    val_fraction=0.2,
    fit_standardisation=True,
)


def tokens(text: str) -> list[int]:
    ids: list[int] = TOKENIZER.encode(text, add_special_tokens=False).ids
    return ids


def pictures(count: int, captions: int = 2, seed: int = 0) -> list[tuple[np.ndarray, list[str]]]:
    """Embeddings that hold a colour (a large component) and noise, with captions naming it."""
    draw = np.random.default_rng(seed)
    made = []
    for at in range(count):
        embedding = 0.1 * draw.standard_normal(DIM).astype(np.float32)
        embedding[at % len(WORDS)] += 1
        said = [f"{WORDS[at % len(WORDS)]}{'!' * k}" for k in range(captions)]
        made.append((embedding, said))
    return made


def examples(
    folder: Path, made: Sequence[tuple[np.ndarray, Sequence[str]]], limit: int = 40
) -> ExampleFile:
    return write_examples(folder, made, tokens, max_tokens=limit)


def fresh() -> CaptionModel:
    model = tiny_model(seed=1, standardise=True)
    with torch.no_grad():
        for weight in model.language.network.parameters():
            weight.div_(4.0)
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.1  # so that randomness has to be resumed too
    return model


def weights(model: CaptionModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


class Stopped(Exception):
    """The process went away."""


def train_until(step: int, made: ExampleFile, checkpoints: LocalCheckpoints) -> None:
    def stop(progress: Progress) -> None:
        if progress.step >= step:
            raise Stopped

    with pytest.raises(Stopped):
        train(fresh(), made, RECIPE, checkpoints=checkpoints, report=stop)


def whole_training(
    made: ExampleFile, recipe: Recipe = RECIPE
) -> tuple[CaptionModel, TrainingResult]:
    model = fresh()
    return model, train(model, made, recipe, checkpoints=MemoryCheckpoints())


def test_an_interrupted_training_ends_bit_for_bit_as_an_undisturbed_one(tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", pictures(40))
    undisturbed, result = whole_training(made)
    for stop in (6, 12, 18):
        checkpoints = LocalCheckpoints(tmp_path / f"state{stop}")
        train_until(stop, made, checkpoints)
        resumed = fresh()
        again = train(resumed, made, RECIPE, checkpoints=checkpoints)
        assert again.curve == result.curve
        assert [step for step, _, _ in again.curve] == [6, 12, 18, 24]
        for name, value in weights(undisturbed).items():
            assert torch.equal(weights(resumed)[name], value), name


def test_a_finished_training_resumed_gives_the_same_model(tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", pictures(20))
    checkpoints = LocalCheckpoints(tmp_path / "state")
    first, again = fresh(), fresh()
    result = train(first, made, RECIPE, checkpoints=checkpoints)
    assert train(again, made, RECIPE, checkpoints=checkpoints).curve == result.curve
    assert all(torch.equal(weights(again)[k], v) for k, v in weights(first).items())


def test_training_is_a_function_of_its_seed(tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", pictures(30))
    first, second = whole_training(made)[1], whole_training(made)[1]
    other = whole_training(made, RECIPE.changed({"seed": 1}))[1]
    assert first.curve == second.curve
    assert first.curve != other.curve


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", pictures(20))
    checkpoints = LocalCheckpoints(tmp_path / "state")
    train(fresh(), made, RECIPE, checkpoints=checkpoints)
    changed = RECIPE.changed({"learning_rate": 1e-4})
    with pytest.raises(ModelError, match="of another training"):
        train(fresh(), made, changed, checkpoints=checkpoints)
    others = examples(tmp_path / "others", pictures(20, seed=9))
    with pytest.raises(ModelError, match="of another training"):
        train(fresh(), others, RECIPE, checkpoints=checkpoints)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoints = LocalCheckpoints(tmp_path / "state")
    checkpoints.save("last", pack({"a": torch.ones(2)}, {"step": 1})[:-3])
    with pytest.raises(ModelError, match="checkpoint cannot be read"):
        train(fresh(), examples(tmp_path / "e", pictures(4)), RECIPE, checkpoints=checkpoints)


def test_a_blob_gives_back_tensors_and_facts() -> None:
    tensors, facts = unpack(pack({"a": torch.arange(3.0)}, {"step": 7, "curve": [[1, 0.5, None]]}))
    assert torch.equal(tensors["a"], torch.arange(3.0))
    assert facts == {"step": 7, "curve": [[1, 0.5, None]]}


def test_captions_learnt_are_those_of_their_own_pictures(tmp_path: Path) -> None:
    """Every picture names its own colour: a shift by one row anywhere fails this."""
    made = pictures(60, captions=1)
    recipe = RECIPE.changed({"min_steps": 250, "validate_every": 250, "batch_size": 32})
    model, result = whole_training(examples(tmp_path / "examples", made), recipe)
    image_BC = torch.from_numpy(np.stack([embedding for embedding, _ in made]))
    texts = [caption.text for caption in model.caption_embeddings(image_BC)]
    right = sum(text == said[0] for text, (_, said) in zip(texts, made, strict=True))
    assert right >= 58
    assert result.val_loss is not None
    assert result.val_loss < 0.3
    assert model.decoding == Greedy(5 + 1 + 8, (TOKENIZER.token_to_id(END),))


def test_the_loss_counts_caption_and_end_and_nothing_after(tmp_path: Path) -> None:
    model = fresh()
    made = examples(tmp_path / "examples", [(e, ["ab", "a"]) for e, _ in pictures(2)])
    both = made.batch([(0, 0), (1, 1)])
    loss, count = caption_loss(model, both)
    assert count.item() == (2 + 1) + (1 + 1)
    by_hand = 0.0
    for row, text in enumerate(("ab", "a")):
        ids = tokens(text)
        prefix = model.prefix(both.images[row : row + 1])
        embedded = model.language.embed(torch.tensor([ids]))
        network = model.language.network(inputs_embeds=torch.cat([prefix, embedded], dim=1))
        logits = network.logits[0, prefix.shape[1] - 1 :]
        target = torch.tensor([*ids, TOKENIZER.token_to_id(END)])
        by_hand += functional.cross_entropy(logits, target, reduction="sum").item()
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)
    scribbled = both.tokens.clone()
    scribbled[1, 1] = 99
    other, _ = caption_loss(model, Batch(both.images, scribbled, both.lengths))
    assert other.item() == pytest.approx(loss.item(), rel=1e-6)


def test_no_picture_is_both_learnt_and_held_out_even_if_it_comes_twice(tmp_path: Path) -> None:
    once = pictures(50)
    made = examples(tmp_path / "examples", once + once[::-1])
    learnt, held_out = made.split(0.2, seed=3)
    assert sorted([*learnt, *held_out]) == list(range(100))
    assert 18 <= len(held_out) <= 24
    seen = {made.embeddings([at]).tobytes() for at in learnt}
    assert not seen & {made.embeddings([at]).tobytes() for at in held_out}


def test_the_split_depends_on_content_and_seed_and_not_on_order(tmp_path: Path) -> None:
    made = pictures(40)
    straight, turned = examples(tmp_path / "a", made), examples(tmp_path / "b", made[::-1])
    held_out = {straight.embeddings([at]).tobytes() for at in straight.split(0.25, 1)[1]}
    assert held_out == {turned.embeddings([at]).tobytes() for at in turned.split(0.25, 1)[1]}
    assert held_out != {straight.embeddings([at]).tobytes() for at in straight.split(0.25, 2)[1]}


@pytest.mark.parametrize(("count", "fraction", "held_out"), [(1, 0.5, 0), (2, 0.1, 1), (9, 0, 0)])
def test_small_collections_are_split_sensibly(
    tmp_path: Path, count: int, fraction: float, held_out: int
) -> None:
    made = examples(tmp_path / "examples", pictures(count))
    assert len(made.split(fraction, 0)[1]) == held_out


def test_nothing_held_out_trains_without_validation(tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", pictures(10))
    _, result = whole_training(made, RECIPE.changed({"val_fraction": 0.0}))
    assert result.val_loss is None
    assert result.val_pictures == 0


def test_examples_come_back_as_they_were_written(tmp_path: Path) -> None:
    made = pictures(30, captions=3)
    made[4] = (made[4][0], ["", "only this one"])
    file = examples(tmp_path / "examples", [*made[:9], (made[9][0], []), *made[9:]])
    assert len(file) == 30, "a picture without captions is passed over"
    for at, (embedding, said) in enumerate(made):
        assert np.array_equal(file.embeddings([at])[0], embedding)
        wanted = [text for text in said if text]
        assert file.captions_of(at) == len(wanted)
        for which, text in enumerate(wanted):
            batch = file.batch([(at, which)])
            assert batch.tokens[0, : int(batch.lengths[0])].tolist() == tokens(text)


def test_long_captions_are_cut_and_said_to_be_that_long(tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", [(np.ones(DIM), ["a" * 90])], limit=40)
    assert made.longest == 40


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([], "nothing to train on"),
        ([(np.ones(DIM), [""])], "nothing to train on"),
        ([(np.ones(DIM), ["a"]), (np.ones(3), ["b"])], r"shape \(3,\)"),
        ([(np.full(DIM, np.nan), ["a"])], "not finite"),
    ],
)
def test_examples_that_cannot_be_learnt_are_refused(
    tmp_path: Path, made: list[tuple[np.ndarray, list[str]]], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        examples(tmp_path / "examples", made)


def test_every_epoch_visits_every_picture_once(tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", pictures(130, captions=5))
    recipe = RECIPE.changed({"batch_size": 7, "seed": 5})
    visits = Visits(range(100, 130), made, recipe)
    stream = [row for step in range(60) for row in visits.rows(step)]
    for epoch in range(14):
        visited = [picture for picture, _ in stream[30 * epoch : 30 * epoch + 30]]
        assert sorted(visited) == list(range(100, 130))
    assert [at for at, _ in stream[:30]] != [at for at, _ in stream[30:60]]
    assert len({which % 5 for at, which in stream if at == 100}) > 2
    assert Visits(range(100, 130), made, recipe).rows(41) == visits.rows(41)


def test_the_best_weights_are_kept_when_they_are_asked_for(tmp_path: Path) -> None:
    """Noise learnt by heart: the held-out loss falls, then rises."""
    draw = np.random.default_rng(0)
    noise = [
        (draw.standard_normal(DIM).astype(np.float32), ["".join(draw.choice(list("abcd"), 6))])
        for _ in range(24)
    ]
    made = examples(tmp_path / "examples", noise)
    recipe = RECIPE.changed({"min_steps": 160, "validate_every": 20, "keep": "best"})
    model, result = whole_training(made, recipe)
    losses = [val for _, _, val in result.curve]
    assert result.val_loss == min(losses)
    assert losses[-1] > min(losses)
    _, held_out = made.split(recipe.val_fraction, recipe.seed)
    total, count = caption_loss(model, made.batch([(at, 0) for at in held_out]))
    assert (total / count).item() == pytest.approx(result.val_loss, rel=1e-5)


def test_a_frozen_language_model_does_not_move(tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", pictures(10))
    before = weights(fresh())
    model, _ = whole_training(made, RECIPE.changed({"train_language": False}))
    for name, value in weights(model).items():
        moved = not torch.equal(value, before[name])
        assert moved == (not name.startswith("language.")), name


def test_the_rate_rises_linearly_then_falls_linearly_to_almost_0() -> None:
    recipe = Recipe(name="r", learning_rate=1.0, warmup_steps=4)
    rates = [recipe.rate(step, 12) for step in range(12)]
    assert rates == pytest.approx(
        [0.25, 0.5, 0.75, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"keep": "first"}, "keep must be last or best"),
        ({"keep": "best", "val_fraction": 0.0}, "raise val_fraction"),
        ({"val_fraction": 1.0}, "from 0 to below 1"),
        ({"learning_rate": 0.0}, "must be above 0"),
        ({"learn_rate": 1e-3}, "Did you mean learning_rate"),
        ({"precision": "float8"}, "float32 or bfloat16"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        RECIPE.changed(changes)


def test_an_unknown_recipe_is_named_with_what_comes_near() -> None:
    with pytest.raises(ModelError, match="Did you mean nano-scratch"):
        find_recipe("nano-scrach")
    assert all(find_recipe(name).name == name for name in RECIPES)
    with pytest.raises(ModelError, match="multiple of 32"):
        FreshModel(width=33)


def test_a_recipe_survives_json() -> None:
    recipe = find_recipe("nano-scratch").changed({"fresh": FreshModel(width=64), "seed": 7})
    again = recipe_from_json(json.loads(json.dumps(recipe.to_json())))
    assert again == replace(recipe, about="")
    with pytest.raises(ModelError, match="'speed'"):
        recipe_from_json({**recipe.to_json(), "speed": 1})


def test_examples_leave_nothing_behind(tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", pictures(3))
    made.close()
    assert not list((tmp_path / "examples").iterdir())


def test_a_fresh_model_fits_any_encoder_and_its_seed_decides_it() -> None:
    encoder = EncoderSpec(name="other", dim=20, normalized=False)
    recipe = find_recipe("nano-scratch")
    first, second = begin(recipe, encoder, device="cpu"), begin(recipe, encoder, device="cpu")
    other = begin(recipe.changed({"seed": 1}), encoder, device="cpu")
    key = "language.network.transformer.wte.weight"
    assert torch.equal(weights(first)[key], weights(second)[key])
    assert not torch.equal(weights(first)[key], weights(other)[key])
    assert first.encoder_spec == encoder
    assert len(first.caption_embeddings(torch.randn(2, 20), Greedy(3))) == 2


def test_a_recipe_that_continues_nano_refuses_other_embeddings() -> None:
    with pytest.raises(ModelError, match="Or train with the recipe nano-scratch"):
        begin(find_recipe("nano"), EncoderSpec(name="ViT-B-32/openai", dim=512), device="cpu")
