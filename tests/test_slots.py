"""Captions written in slots that are refilled: the same as in any other company, and bounded."""

from collections.abc import Sequence
from math import isfinite, isnan

import pytest
import torch
from tiny_families import FAMILIES, random_pair
from tiny_models import DIM, tiny_model
from torch import Tensor

from captioner.decoding import Beam, Decoding, Greedy, Sample
from captioner.engine.prefixes import Line, Prefixes
from captioner.engine.transformers_slots import TransformersSlots
from captioner.model import CaptionModel

STOPS = tuple(range(0, 258, 8))
IMAGES = torch.randn(60, DIM, generator=torch.Generator().manual_seed(4))
IDS = [f"picture-{number}" for number in range(len(IMAGES))]
DECODINGS: dict[str, Decoding] = {
    "greedy": Greedy(16, STOPS),
    "hindered": Greedy(
        16, STOPS, min_tokens=3, repetition_penalty=1.4, no_repeat_ngram=2, stop_strings=("e",)
    ),
    "drawn": Sample(16, STOPS, n=3, seed=5, top_p=0.9),
    "beams": Beam(12, STOPS[:20], beams=4, n=2, length_penalty=0.0),
    "clipcap beams": Beam(12, STOPS[:20], beams=4, n=2, mode="clipcap"),
}


@pytest.fixture(scope="module", params=[torch.float32, torch.float64])
def model(request: pytest.FixtureRequest) -> CaptionModel:
    """In float64 by torch's own operators, for which there are no kernels."""
    return tiny_model(seed=3).to(request.param)


@pytest.mark.parametrize("at_once", [1, 7, 16, 35])
@pytest.mark.parametrize("name", DECODINGS)
def test_a_caption_that_enters_late_is_the_one_it_would_have_been(
    model: CaptionModel, name: str, at_once: int
) -> None:
    """Slots hold what an earlier caption left; nothing of it may be read."""
    decoding = DECODINGS[name]
    together = written(model, decoding, 256)
    in_turns = written(model, decoding, at_once)
    assert [[one.token_ids for one in row] for row in in_turns] == [
        [one.token_ids for one in row] for row in together
    ]
    for row, other in zip(in_turns, together, strict=True):
        for one, same in zip(row, other, strict=True):
            assert one.logprob == pytest.approx(same.logprob, rel=1e-5, abs=1e-5)
    assert len({one.n_tokens for row in together for one in row}) > 3


def test_products_meet_few_numbers_of_rows(model: CaptionModel) -> None:
    """oneDNN keeps what it made for each, so that memory would grow with the captions."""
    portion, rows = 4, set()
    product = model.language.inference_weights().layers[0].qkv
    hook = product.register_forward_hook(lambda _, given, __: rows.add(len(given[0])))
    model.batch_size = 16 * portion
    image_BC = torch.randn(301, DIM, generator=torch.Generator().manual_seed(7))
    found = model.candidates(image_BC, DECODINGS["greedy"], [str(n) for n in range(301)])
    hook.remove()
    assert len(found) == 301
    assert len(rows) > 3
    assert {number % portion for number in rows} == {0}


def written(model: CaptionModel, decoding: Decoding, at_once: int) -> list:
    model.batch_size = at_once
    return model.candidates(IMAGES, decoding, IDS)


@pytest.mark.parametrize("family", ["clipcap-mlp", "clipxgpt-s"])
@torch.inference_mode()
def test_slots_say_what_transformers_says(family: str) -> None:
    model, _ = random_pair(FAMILIES[family])
    prefix_RPD = model.prefix(torch.randn(5, FAMILIES[family].image_dim))
    ours, theirs = model.opening.slots(5, 1), TransformersSlots(model.opening, 1)
    rows = list(range(5))
    found, plain = (slots.enter(prefix_RPD, rows, rows) for slots in (ours, theirs))
    for _ in range(12):
        torch.testing.assert_close(found.logits(), plain.logits(), rtol=1e-4, atol=1e-4)
        token_G1 = plain.best()[0][:, None]
        assert torch.equal(found.best()[0][:, None], token_G1)
        found, plain = (slots.step(token_G1, [True] * 5) for slots in (ours, theirs))


def test_the_likeliest_tokens_come_with_their_log_probabilities(model: CaptionModel) -> None:
    """The vocabulary is read in parts: their sums must come together."""
    with torch.inference_mode():
        slots = model.opening.slots(4, 1)
        after = slots.enter(model.prefix(IMAGES[:4]), [0, 1, 2, 3], [0, 1, 2, 3])
        logprob_NV = after.logits().log_softmax(dim=-1)
        value_NM, token_NM = logprob_NV.topk(5, dim=-1)
        best_N, logprob_N = after.best()
        top_NM, found_NM = after.top(5)
    assert torch.equal(best_N, token_NM[:, 0])
    assert torch.equal(top_NM, token_NM)
    torch.testing.assert_close(logprob_N, value_NM[:, 0])
    torch.testing.assert_close(found_NM, value_NM)


@pytest.mark.parametrize("name", DECODINGS)
def test_an_image_without_a_finite_caption_spoils_none_that_comes_after(
    model: CaptionModel, name: str
) -> None:
    """0 * NaN is NaN: what a slot held must be gone, not only be hidden."""
    broken = IMAGES.clone()
    broken[:4] = torch.nan
    model.batch_size = 16
    captions = model.candidates(broken, DECODINGS[name], IDS)
    fine = model.candidates(IMAGES, DECODINGS[name], IDS)
    assert [[one.token_ids for one in row] for row in captions[4:]] == [
        [one.token_ids for one in row] for row in fine[4:]
    ]
    assert all(row and all(isnan(one.logprob) for one in row) for row in captions[:4])
    assert all(isfinite(one.logprob) for row in captions[4:] for one in row)


@pytest.mark.parametrize("mode", ["default", "clipcap"])
def test_a_caption_of_one_token_is_scored_as_one(model: CaptionModel, mode: str) -> None:
    """It is done before a step is made, and another step would add to its score."""
    with torch.inference_mode():
        rows = list(range(len(IMAGES)))
        after = model.opening.slots(len(rows), 1).enter(model.prefix(IMAGES), rows, rows)
        likely_NM, token_NM = after.logits().log_softmax(dim=-1).topk(3)
    model.batch_size = 32
    captions = model.candidates(IMAGES, Beam(1, beams=4, n=3, mode=mode), IDS)
    assert [[one.token_ids[0] for one in row] for row in captions] == token_NM.tolist()
    for row, likely in zip(captions, likely_NM.tolist(), strict=True):
        assert [one.logprob for one in row] == pytest.approx(likely, abs=1e-5)
        assert {one.n_tokens for one in row} == {1}


def test_no_more_prefixes_are_made_at_a_time_than_captions_are_written() -> None:
    """Prefixes of a whole row group would take hundreds of megabytes."""
    made: list[int] = []

    def make(first: int, end: int) -> Tensor:
        made.append(end - first)
        return torch.arange(first, end)[:, None, None].float()

    line = Line(Prefixes(make, 100, 1, torch.device("cpu"), at_once=16), copies=3)
    seen: list[tuple[float, int]] = []
    while line.waiting:
        prefix_RPD, rows, numbers = line.take(min(line.waiting, 7))
        seen += [(float(prefix_RPD[r, 0, 0]), n) for r, n in zip(rows, numbers, strict=True)]
    assert seen == [(number // 3, number) for number in range(300)]
    assert sum(made) == 100
    assert max(made) <= 16


def test_progress_counts_every_image_once(model: CaptionModel) -> None:
    model.batch_size = 8
    told: list[int] = []
    model.candidates(IMAGES, DECODINGS["drawn"], IDS, progress=told.append)
    assert sum(told) == len(IMAGES)
    assert len(told) > 1


def test_weights_that_change_are_laid_out_anew() -> None:
    model = tiny_model(seed=3)
    before = tokens(model)
    with torch.no_grad():
        model.language.network.transformer.h[0].mlp.c_fc.weight.neg_()
    assert tokens(model) != before


def tokens(model: CaptionModel) -> Sequence[tuple[int, ...]]:
    return [one.token_ids for one in model.caption_embeddings(IMAGES, Greedy(8))]
