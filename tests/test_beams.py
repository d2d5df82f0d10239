"""Beams and constraints write what transformers' own generate writes, batched and unbatched."""

import pytest
import torch
from tiny_models import DIM, tiny_model
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from captioner.choosing import _keep, draw
from captioner.decoding import Beam, Decoding, Generated, Greedy, Sample
from captioner.model import CaptionModel

pytestmark = pytest.mark.filterwarnings("ignore:Passing .* with `inputs_embeds`:UserWarning")
STOPS, FEW_STOPS = tuple(range(0, 258, 3)), tuple(range(0, 258, 8))
IMAGES = torch.randn(24, DIM, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def model() -> CaptionModel:
    return tiny_model(seed=5)


def theirs(
    model: CaptionModel, decoding: Greedy | Beam, images: Tensor = IMAGES
) -> list[list[tuple[int, ...]]]:
    """What `generate` says after each prefix; it sees generated ids only."""
    beams, n = (decoding.beams, decoding.n) if isinstance(decoding, Beam) else (1, 1)
    extra = {"length_penalty": decoding.length_penalty} if isinstance(decoding, Beam) else {}
    with torch.inference_mode():
        prefix_BPD = model.prefix(images)
        out = model.language.network.generate(
            inputs_embeds=prefix_BPD,
            attention_mask=torch.ones(prefix_BPD.shape[:2], dtype=torch.long),
            max_new_tokens=decoding.max_tokens,
            min_new_tokens=decoding.min_tokens or None,
            repetition_penalty=decoding.repetition_penalty,
            no_repeat_ngram_size=decoding.no_repeat_ngram,
            eos_token_id=list(decoding.stop_ids),
            pad_token_id=257,
            do_sample=False,
            num_beams=beams,
            num_return_sequences=n,
            **({"early_stopping": False} | extra if beams > 1 else {}),
        ).tolist()
    rows = [up_to_stop(row, decoding.stop_ids) for row in out]
    return [rows[at : at + n] for at in range(0, len(rows), n)]


def up_to_stop(row: list[int], stops: tuple[int, ...]) -> tuple[int, ...]:
    ends = [at for at, token in enumerate(row) if token in stops]
    return tuple(row[: ends[0]] if ends else row)


def ours(model: CaptionModel, decoding: Decoding) -> list[list[Generated]]:
    with torch.inference_mode():
        ids = [str(at) for at in range(len(IMAGES))]
        return decoding.generate(model.opening, model.prefix(IMAGES), ids)


BEAMS = {
    "plain": Beam(14, STOPS, n=5),
    "short": Beam(14, FEW_STOPS, n=5, length_penalty=0.0),
    "long": Beam(14, STOPS, n=4, length_penalty=2.0),
    "negative": Beam(14, FEW_STOPS, n=3, length_penalty=-1.0),
    "one-stop": Beam(14, STOPS[3:4], n=5),
    "no-stop": Beam(9, n=5),
    "three": Beam(12, FEW_STOPS, beams=3, n=2, length_penalty=0.7),
    "penalty": Beam(14, STOPS, n=3, repetition_penalty=1.7),
    "ngram": Beam(14, STOPS, n=3, no_repeat_ngram=2),
    "minimum": Beam(14, STOPS, n=3, min_tokens=5),
    "everything": Beam(14, STOPS, n=5, min_tokens=3, repetition_penalty=1.3, no_repeat_ngram=1),
}


@pytest.mark.parametrize("name", BEAMS)
def test_default_beams_are_those_of_transformers(model: CaptionModel, name: str) -> None:
    found = ours(model, BEAMS[name])
    assert [[one.token_ids for one in row] for row in found] == theirs(model, BEAMS[name])


@pytest.mark.parametrize("name", ["plain", "short", "penalty", "everything"])
def test_the_compared_beams_end_early_and_late(model: CaptionModel, name: str) -> None:
    best = [row[0] for row in ours(model, BEAMS[name])]
    assert sum(one.stop_id is not None for one in best) > len(IMAGES) / 3
    assert len({len(one.token_ids) for one in best}) > 4


@pytest.mark.parametrize("mode", ["default", "clipcap"])
def test_beams_of_an_image_depend_on_no_other(model: CaptionModel, mode: str) -> None:
    decoding = Beam(14, STOPS, n=5, mode=mode)
    together = model.candidates(IMAGES, decoding)
    for size in (1, 7):
        parts = [row for part in IMAGES.split(size) for row in model.candidates(part, decoding)]
        for row, other in zip(parts, together, strict=True):
            assert [one.token_ids for one in row] == [one.token_ids for one in other]


GREEDY = {
    "penalty": Greedy(20, STOPS, repetition_penalty=1.5),
    "bonus": Greedy(20, STOPS, repetition_penalty=0.8),
    "unigram": Greedy(20, STOPS, no_repeat_ngram=1),
    "trigram": Greedy(40, no_repeat_ngram=3),
    "minimum": Greedy(20, STOPS, min_tokens=6),
    "everything": Greedy(20, STOPS, min_tokens=4, repetition_penalty=1.2, no_repeat_ngram=2),
}


@pytest.mark.parametrize("name", GREEDY)
def test_constrained_greedy_is_that_of_transformers(model: CaptionModel, name: str) -> None:
    found = [[one.token_ids for one in row] for row in ours(model, GREEDY[name])]
    assert found == theirs(model, GREEDY[name])
    free = Greedy(GREEDY[name].max_tokens, GREEDY[name].stop_ids)
    assert found != theirs(model, free), "a constraint that changes nothing proves nothing"


FILTERS = [
    Sample(temperature=0.5),
    Sample(top_k=1),
    Sample(top_k=9),
    Sample(top_k=500),
    Sample(top_p=0.8),
    Sample(top_p=0.01),
    Sample(min_p=0.1),
    Sample(temperature=2.5, top_k=30, top_p=0.7, min_p=0.2),
    Sample(temperature=0.4, top_k=5, top_p=0.95),
    Sample(temperature=1.9, top_p=0.5, min_p=0.4),
]


@pytest.mark.parametrize("settings", FILTERS)
def test_tokens_let_through_are_those_of_transformers_in_its_order(settings: Sample) -> None:
    generator = torch.Generator().manual_seed(3)
    logits_BV = torch.randn(300, 50, generator=generator) * 3
    warpers = LogitsProcessorList([TemperatureLogitsWarper(settings.temperature)])
    if settings.top_k:
        warpers.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        warpers.append(TopPLogitsWarper(settings.top_p))
    if settings.min_p:
        warpers.append(MinPLogitsWarper(settings.min_p))
    wanted_BV = warpers(torch.zeros(300, 0, dtype=torch.long), logits_BV.clone())
    found_BV = _keep(logits_BV / settings.temperature, settings)
    assert torch.equal(found_BV.isfinite(), wanted_BV.isfinite())
    torch.testing.assert_close(found_BV.softmax(-1), wanted_BV.softmax(-1))


@pytest.mark.parametrize("chance", [0.0, 1e-300, 0.5, 1 - 2**-53])
def test_no_draw_however_extreme_leaves_the_tokens_let_through(chance: float) -> None:
    logits_BV = torch.randn(400, 60, generator=torch.Generator().manual_seed(8)) * 3
    settings = Sample(top_k=4)
    kept_BV = _keep(logits_BV, settings).isfinite()
    token_B = draw(logits_BV, settings, torch.full((400,), chance, dtype=torch.float64))
    assert kept_BV.gather(1, token_B[:, None]).all()
