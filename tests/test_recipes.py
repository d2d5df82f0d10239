"""Recipes of the published models: what they train, what stays, which loss they minimise."""

from pathlib import Path

import pytest
import torch
from test_training import RECIPE, Stopped, examples, fresh, pictures, weights, whole_training
from tiny_models import DIM, tiny_model
from torch.nn import functional

from captioner.architectures import ARCHITECTURES
from captioner.beginnings import begin
from captioner.checkpoints import LocalCheckpoints, MemoryCheckpoints
from captioner.configs import EncoderSpec, Opening
from captioner.counting import count_parameters
from captioner.curves import loss_curve
from captioner.errors import ModelError
from captioner.examples import ExampleFile
from captioner.losses import caption_loss, clipcap_loss, clipxgpt_loss, end_id
from captioner.mappers import EncoderMapper
from captioner.openings import opened
from captioner.recipes import FAITHFUL, RECIPES, Recipe, find_recipe, recipe_from_json
from captioner.training import Progress, train
from captioner.visits import Visits

DESIGNED = [name for name, recipe in RECIPES.items() if recipe.architecture]
SPEC = EncoderSpec(name="nano", dim=DIM)
TOY = {"language": "nano", "min_steps": 4, "max_steps": 4, "batch_size": 4, "validate_every": 2}


def toy(name: str, *, faithful: bool = False, **settings: object) -> Recipe:
    return find_recipe(name, faithful=faithful).changed({**TOY, **settings})


def nano_examples(folder: Path, model: object, count: int = 16) -> ExampleFile:
    from captioner.examples import write_examples

    return write_examples(folder, pictures(count), model.language.tokens, max_tokens=30)


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("name", DESIGNED)
def test_every_recipe_trains_what_it_says_and_nothing_else(
    name: str, faithful: bool, tmp_path: Path
) -> None:
    recipe = toy(name, faithful=faithful, learning_rate=1e-3, warmup_steps=1)
    if recipe.train_tensors:
        recipe = recipe.changed({"train_tensors": 3})
    model = begin(recipe, SPEC, device="cpu")
    free = model.language.ends(tensors=recipe.train_tensors)
    before = weights(model)
    made = nano_examples(tmp_path / "examples", model)
    result = train(model, made, recipe, checkpoints=MemoryCheckpoints())
    assert result.steps == 4
    for key, value in weights(model).items():
        part, _, inner = key.partition(".")
        inner = inner.removeprefix("network.")
        tied = inner == "lm_head.weight"
        learns = part == "mapper" or (
            part == "language"
            and recipe.train_language
            and ("transformer.wte.weight" if tied else inner) in free
        )
        still = name.startswith("clipxgpt") and "self_attn.in_proj" in key and not faithful
        if not learns:
            assert value.equal(before[key]), key
        elif not still:  # queries and keys of an image that attends to itself get no gradient
            assert not value.equal(before[key]), key
    assert not any(p.requires_grad for p in model.parameters())
    assert model.caption_embeddings(made_images(made))


def made_images(made: ExampleFile) -> torch.Tensor:
    return torch.from_numpy(made.embeddings([0, 1]))


def test_a_recipe_has_the_manners_of_its_original_only_if_it_is_faithful() -> None:
    ours = begin(toy("clipcap"), SPEC, device="cpu").config
    theirs = begin(toy("clipcap", faithful=True), SPEC, device="cpu").config
    assert ours.wording.keep_stop is False
    assert theirs.wording.keep_stop is True
    assert theirs.decoding.to_json()["mode"] == "clipcap"
    assert ours.decoding.stop_ids != theirs.decoding.stop_ids
    kinds = [
        begin(toy("clipxgpt-small", faithful=how), SPEC, device="cpu").config.opening.kind
        for how in (False, True)
    ]
    assert kinds == ["bos", "clipxgpt"]
    with pytest.raises(ModelError, match="no original"):
        find_recipe("nano", faithful=True)


def test_counts_of_parameters_are_those_that_were_published() -> None:
    counts = {name: count_parameters(design).whole for name, design in ARCHITECTURES.items()}
    assert counts["clipxgpt-small"] == pytest.approx(256e6, rel=0.01)
    assert counts["clipxgpt-large"] == pytest.approx(736e6, rel=0.02)
    assert counts["clipxgpt-giant"] > 2.5e9


def test_the_ends_of_a_language_model_are_counted_as_the_originals_were() -> None:
    language = tiny_model(width=32).language
    names = [name for name, _ in language.network.named_parameters()]
    assert language.ends(tensors=14) == {*names[:14], *names[-14:]}
    blocks = language.ends(blocks=1)
    assert all((".h.0." in name) or (".h.1." in name) or ".h." not in name for name in blocks)
    assert language.ends() == set(names)
    with pytest.raises(ModelError, match="blocks, not 2 x 2"):
        language.ends(blocks=2)
    with pytest.raises(ModelError, match="tensors, not 2 x 99"):
        language.ends(tensors=99)


@torch.no_grad()
def test_clipcaps_loss_ignores_token_0_and_has_no_end(tmp_path: Path) -> None:
    model = tiny_model(seed=2)
    made = examples(tmp_path / "examples", pictures(6))
    batch = made.batch([(at, 0) for at in range(6)])
    batch.tokens[0, 1] = 0  # a real token with the padding's id
    total, count = clipcap_loss(model, batch)
    wanted, tokens = 0.0, 0
    for image_C, row, n in zip(batch.images, batch.tokens, batch.lengths.tolist(), strict=True):
        ids = row[:n]
        sequence = torch.cat([model.prefix(image_C[None])[0], model.language.embed(ids[None])[0]])
        logits = model.language.network(inputs_embeds=sequence[None]).logits[0]
        said = logits[model.config.mapper.prefix_tokens - 1 : -1]
        for position, token in enumerate(ids.tolist()):
            if token:
                wanted -= float(said[position].log_softmax(-1)[token])
                tokens += 1
    assert count.item() == tokens
    assert total.item() == pytest.approx(wanted, rel=1e-4)


@torch.no_grad()
def test_clipxgpts_loss_takes_softmax_twice_and_learns_padding(tmp_path: Path) -> None:
    model = tiny_model(seed=2)
    made = examples(tmp_path / "examples", pictures(6))
    batch = made.batch([(at, at % 2) for at in range(6)])
    total, count = clipxgpt_loss(model, batch)
    width, end = batch.tokens.shape[1], end_id(model)
    table = model.language.position_table
    assert table is not None
    wanted = 0.0
    for image_C, row, n in zip(batch.images, batch.tokens, batch.lengths.tolist(), strict=True):
        ids = torch.cat([row[:n], torch.full((width - n,), end)])
        prefix = model.prefix(image_C[None])[0]
        inputs = torch.cat([prefix, model.language.embed(ids[None, :-1])[0]])
        inputs = inputs + table[: len(inputs)]
        mask = torch.ones(1, len(inputs), dtype=torch.long)
        mask[0, len(prefix) + n :] = 0
        logits = model.language.network(inputs_embeds=inputs[None], attention_mask=mask).logits[0]
        chances = logits[len(prefix) :].softmax(-1)
        wanted += float(functional.cross_entropy(chances, ids[1:], reduction="sum"))
    assert count.item() == 6 * (width - 1)
    assert total.item() == pytest.approx(wanted, rel=1e-4)


@torch.no_grad()
def test_a_beginning_token_stands_before_the_prefix_in_training_as_in_decoding(
    tmp_path: Path,
) -> None:
    model = tiny_model(seed=2)
    made = examples(tmp_path / "examples", pictures(4))
    batch = made.batch([(0, 0)])
    plain = caption_loss(model, batch)[0].item()
    model.opening = opened(model.language, Opening(kind="bos", bos_id=7))
    with_begin = caption_loss(model, batch)[0].item()
    ids = batch.tokens[0, : batch.lengths[0]]
    start = torch.cat([model.language.embed(torch.tensor([[7]]))[0], model.prefix(batch.images)[0]])
    sequence = torch.cat([start, model.language.embed(ids[None])[0]])
    logits = model.language.network(inputs_embeds=sequence[None]).logits[0, len(start) - 1 :]
    target = torch.cat([ids, torch.tensor([end_id(model)])])
    wanted = functional.cross_entropy(logits, target, reduction="sum").item()
    assert with_begin == pytest.approx(wanted, rel=1e-5)
    assert with_begin != pytest.approx(plain, rel=1e-3)


@torch.no_grad()
def test_images_of_a_batch_meet_in_the_mapper_only_while_the_original_trains() -> None:
    recipe = toy("clipxgpt-small", faithful=True, train_tensors=3)
    model = begin(recipe, SPEC, device="cpu").eval()
    image_BC = torch.randn(5, DIM, generator=torch.manual_seed(0))
    alone = torch.cat([model.prefix(image_C[None]) for image_C in image_BC])
    assert torch.allclose(model.prefix(image_BC), alone, atol=1e-5)
    assert isinstance(model.mapper, EncoderMapper)
    model.mapper.across_batch = True
    assert not torch.allclose(model.prefix(image_BC), alone, atol=1e-3)


def test_bucketed_batches_hold_like_lengths_and_still_visit_everything_once(
    tmp_path: Path,
) -> None:
    said = [(image, ["x" * (1 + at % 19)]) for at, (image, _) in enumerate(pictures(256))]
    made = examples(tmp_path / "examples", said)
    recipe = RECIPE.changed({"batch_size": 8, "bucketed": True})
    visits = Visits(range(256), made, recipe)
    batches = [visits.rows(at) for at in range(32)]
    assert sorted(at for rows in batches for at, _ in rows) == list(range(256))
    spread = [max(made.length_of(*row) for row in rows) for rows in batches]
    padding = sum(
        longest - made.length_of(*row)
        for rows, longest in zip(batches, spread, strict=True)
        for row in rows
    )
    assert padding < 256
    assert spread != sorted(spread), "batches must not come in the order of length"
    assert Visits(range(256), made, recipe).rows(17) == batches[17]


def test_an_epoch_of_every_caption_visits_each_once(tmp_path: Path) -> None:
    said = [(image, ["a", "b", "c"][: 1 + at % 3]) for at, (image, _) in enumerate(pictures(30))]
    made = examples(tmp_path / "examples", said)
    visits = Visits(range(30), made, RECIPE.changed({"batch_size": 6, "every_caption": True}))
    assert len(visits) == 60
    rows = [row for at in range(10) for row in visits.rows(at)]
    assert sorted(rows) == [(at, k) for at in range(30) for k in range(1 + at % 3)]


def test_accumulated_gradients_are_those_of_one_large_batch(tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", pictures(40))
    settings = {"min_steps": 5, "clip_norm": 100.0, "val_fraction": 0.0}
    curves = []
    for sizes in ({"batch_size": 16}, {"batch_size": 4, "accumulate": 4}):
        model = tiny_model(seed=1, standardise=True)  # it drops nothing out
        recipe = RECIPE.changed({**settings, **sizes, "validate_every": 1})
        result = train(model, made, recipe, checkpoints=MemoryCheckpoints())
        curves.append([loss for _, loss, _ in result.curve])
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    assert curves[0][-1] < curves[0][0]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_learns_and_resumes_exactly(precision: str, tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", pictures(30))
    recipe = RECIPE.changed({"precision": precision})
    whole, result = whole_training(made, recipe)
    assert result.curve[-1][1] < result.curve[0][1]
    checkpoints = LocalCheckpoints(tmp_path / "state")

    def stop(progress: Progress) -> None:
        if progress.step >= 12:
            raise Stopped

    with pytest.raises(Stopped):
        train(fresh(), made, recipe, checkpoints=checkpoints, report=stop)
    resumed = fresh()
    train(resumed, made, recipe, checkpoints=checkpoints)
    for name, value in weights(whole).items():
        assert value.equal(weights(resumed)[name]), name


def test_a_training_that_gets_no_better_stops(tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", pictures(30))
    recipe = RECIPE.changed(
        {
            "min_steps": 400,
            "validate_every": 4,
            "patience": 3,
            "keep": "best",
            "learning_rate": 0.05,
        }
    )
    _, result = whole_training(made, recipe)
    assert result.steps < 400
    assert result.steps == result.kept_step + 3 * 4


def test_the_loss_curve_is_a_picture_and_the_same_each_time(tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", pictures(20))
    _, result = whole_training(made)
    assert loss_curve(result) == loss_curve(result)
    assert loss_curve(result).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", sorted(FAITHFUL))
def test_recipes_survive_json_and_refuse_what_does_not_fit(name: str) -> None:
    recipe = find_recipe(name, faithful=True)
    assert recipe_from_json(recipe.to_json()).to_json() == recipe.to_json()
    with pytest.raises(ModelError, match="loss must be"):
        recipe.changed({"loss": "perplexity"})
    with pytest.raises(ModelError, match="warmup_fraction must be"):
        recipe.changed({"warmup_fraction": 1.5})
    with pytest.raises(ModelError, match="begins anew, not both"):
        recipe.changed({"start": "nano"})
