"""Drawn captions: the same in any company, as likely as the model says, and scored by it."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from tiny_models import DIM, tiny_model
from torch import Tensor

from captioner.captions import Caption
from captioner.choosing import draw
from captioner.configs import Wording
from captioner.decoding import Beam, Decoding, Generated, Greedy, Sample
from captioner.lines import sample_seed
from captioner.model import CaptionModel
from captioner.wording import caption_of

STOPS = tuple(range(0, 258, 8))
IMAGES = torch.randn(64, DIM, generator=torch.Generator().manual_seed(6))
IDS = [f"picture-{at}" for at in range(64)]
DRAWN = Sample(12, STOPS, n=3, seed=5, temperature=1.2, top_p=0.95)


@pytest.fixture(scope="module")
def model() -> CaptionModel:
    return tiny_model(seed=9)


def tokens(rows: list[list[Caption]]) -> list[list[tuple[int, ...]]]:
    return [[one.token_ids for one in row] for row in rows]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_an_image_draws_the_same_captions_in_any_batch(model: CaptionModel, size: int) -> None:
    together = model.candidates(IMAGES, DRAWN, IDS)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(size)).tolist()
    parts = [order[at : at + size] for at in range(0, 64, size)]
    shuffled = [
        row
        for part in parts
        for row in model.candidates(IMAGES[part], DRAWN, [f"picture-{at}" for at in part])
    ]
    assert tokens(shuffled) == [tokens(together)[at] for at in order]
    assert len({one for row in tokens(together) for one in row}) > 150


def test_a_sample_does_not_depend_on_how_many_follow_it(model: CaptionModel) -> None:
    one, five = Sample(12, STOPS, seed=5), Sample(12, STOPS, seed=5, n=5)
    first, all_five = model.candidates(IMAGES, one, IDS), model.candidates(IMAGES, five, IDS)
    assert tokens(first) == [row[:1] for row in tokens(all_five)]
    assert [row[0].seed for row in first] == [row[0].seed for row in all_five]
    assert len({one.seed for row in all_five for one in row}) == 5 * 64


def test_another_seed_or_another_id_draws_other_captions(model: CaptionModel) -> None:
    drawn = tokens(model.candidates(IMAGES, DRAWN, IDS))
    other_seed = Sample(12, STOPS, n=3, seed=6, temperature=1.2, top_p=0.95)
    for other in (
        tokens(model.candidates(IMAGES, other_seed, IDS)),
        tokens(model.candidates(IMAGES, DRAWN, IDS[::-1])),
    ):
        assert sum(one != two for one, two in zip(drawn, other, strict=True)) > 60


def test_without_ids_draws_hang_on_the_embedding_alone(model: CaptionModel) -> None:
    twice = model.candidates(torch.cat([IMAGES[:5], IMAGES[:5]]), DRAWN)
    assert tokens(twice[:5]) == tokens(twice[5:])
    assert [one.seed for row in twice[:5] for one in row] == [
        one.seed for row in twice[5:] for one in row
    ]
    for row, other in zip(twice[:5], twice[5:], strict=True):
        for one, same in zip(row, other, strict=True):
            assert one.logprob == pytest.approx(same.logprob, abs=1e-5)
    assert tokens(twice[:5]) == tokens(model.candidates(IMAGES[:9], DRAWN)[:5])


def test_a_caption_can_be_drawn_again_from_its_seed_alone(model: CaptionModel) -> None:
    """The seed stands in the output; with the model's distribution it is the whole caption."""
    settings = Sample(10, STOPS, n=2, seed=3)
    for image_C, id_ in zip(IMAGES[:8], IDS, strict=False):
        row = model.candidates(image_C[None], settings, [id_])[0]
        for number, one in enumerate(row):
            assert one.seed == sample_seed(3, id_, number)
            assert one.token_ids == plain_draw(model, image_C, one.seed, settings)


@torch.no_grad()
def plain_draw(
    model: CaptionModel, image_C: Tensor, seed: int, settings: Sample
) -> tuple[int, ...]:
    """Add up chances in the order of ids until the step's number is passed: no batch, no cache."""
    numbers = np.random.default_rng(seed).random(settings.max_tokens)
    said: list[int] = []
    for number in numbers:
        chances = next_logprobs(model, image_C, said).exp().tolist()
        reached, token = 0.0, -1
        while reached <= number:
            token += 1
            reached += chances[token]
        if token in settings.stop_ids:
            break
        said.append(token)
    return tuple(said)


def next_logprobs(model: CaptionModel, image_C: Tensor, said: list[int]) -> Tensor:
    network = model.language.network
    embedded = network.get_input_embeddings()(torch.tensor([said], dtype=torch.long))
    whole = torch.cat([model.prefix(image_C[None]), embedded], dim=1)
    logits_V: Tensor = network(inputs_embeds=whole, use_cache=False).logits[0, -1]
    return logits_V.double().log_softmax(-1)


def test_seeds_are_63_bits_and_the_same_on_every_machine() -> None:
    seeds = [sample_seed(seed, id_, at) for seed in (0, 1) for id_ in IDS for at in range(5)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert sample_seed(0, "a", 0) == 8796284223380790412


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_first_tokens_come_as_often_as_the_model_says(
    model: CaptionModel, temperature: float
) -> None:
    """Chi-square over the tokens expected at least 8 times, the rest in one class."""
    draws = 20_000
    logits_V = next_logprobs(model, IMAGES[0], []).float().detach()
    numbers = [np.random.default_rng(sample_seed(1, str(at), 0)).random() for at in range(draws)]
    settings = Sample(temperature=temperature)
    token_B = draw(logits_V.expand(draws, -1), settings, torch.tensor(numbers))
    counts = Counter(token_B.tolist())
    expected = (draws * (logits_V.double() / temperature).softmax(-1)).tolist()
    often = [token for token, count in enumerate(expected) if count >= 8]
    rest = draws - sum(expected[token] for token in often)
    chi = sum((counts[token] - expected[token]) ** 2 / expected[token] for token in often)
    chi += (draws - sum(counts[token] for token in often) - rest) ** 2 / max(rest, 1.0)
    assert len(often) > 5
    assert chi < len(often) + 5 * math.sqrt(2 * len(often))


def test_the_model_draws_with_those_chances_too(model: CaptionModel) -> None:
    """The same through the whole path: 4000 captions of one image, the three likeliest tokens."""
    rows = model.candidates(IMAGES[:1], Sample(1, n=4000, seed=2))
    counts = Counter(one.token_ids[0] for one in rows[0])
    chances = next_logprobs(model, IMAGES[0], []).exp()
    for chance, token in zip(*(part.tolist() for part in chances.topk(3)), strict=True):
        spread = math.sqrt(4000 * chance * (1 - chance))
        assert abs(counts[token] - 4000 * chance) < 4 * spread


SCORED: list[Decoding] = [
    Greedy(14, STOPS),
    Greedy(14, STOPS, repetition_penalty=1.5, no_repeat_ngram=2, min_tokens=4),
    Beam(14, STOPS, n=5),
    Beam(14, STOPS, n=5, length_penalty=0.5, repetition_penalty=1.4, min_tokens=3),
    Beam(14, STOPS, n=5, mode="clipcap"),
    Beam(14, STOPS, n=5, mode="clipcap", no_repeat_ngram=2, min_tokens=4),
    Sample(14, STOPS, n=3, temperature=0.5, top_k=20),
    Sample(14, STOPS, n=3, temperature=2.0, top_p=0.9, min_p=0.01, repetition_penalty=1.3),
]


@pytest.mark.parametrize("decoding", SCORED)
def test_logprobs_are_those_of_the_unmodified_distribution(
    model: CaptionModel, decoding: Decoding
) -> None:
    with torch.inference_mode():
        rows = decoding.generate(model.opening, model.prefix(IMAGES[:16]), IDS[:16])
        for image_C, row in zip(IMAGES, rows, strict=False):
            for one in row:
                assert one.logprob == pytest.approx(taught(model, image_C, one), abs=1e-5, rel=1e-5)
    stopped = [one.stop_id is not None for row in rows for one in row]
    assert sum(stopped) / len(stopped) > 0.2


def taught(model: CaptionModel, image_C: Tensor, one: Generated) -> float:
    """The log-probability by one pass over the finished caption, its stop token included."""
    said = [*one.token_ids, *([] if one.stop_id is None else [one.stop_id])]
    network, prefix_1PD = model.language.network, model.prefix(image_C[None])
    embedded = network.get_input_embeddings()(torch.tensor([said]))
    whole = torch.cat([prefix_1PD, embedded], dim=1)
    logits_TV = network(inputs_embeds=whole, use_cache=False).logits[0]
    logprob_TV = logits_TV[prefix_1PD.shape[1] - 1 : -1].double().log_softmax(-1)
    return float(logprob_TV.gather(1, torch.tensor(said)[:, None]).sum())


@pytest.mark.parametrize("kind", [Greedy, Sample])
def test_no_caption_is_shorter_than_min_or_longer_than_max_tokens(
    model: CaptionModel, kind: type[Greedy] | type[Sample]
) -> None:
    rows = model.candidates(IMAGES, kind(9, STOPS, min_tokens=4), IDS)
    lengths = {row[0].n_tokens for row in rows}
    assert min(lengths) == 4
    assert max(lengths) == 9


def letter(model: CaptionModel, text: str) -> int:
    (token,) = model.language.tokens(text)
    return token


def said_letters(model: CaptionModel, kind: type[Greedy] | type[Sample]) -> list[Caption]:
    return [row[0] for row in model.candidates(IMAGES, kind(20), IDS)]


@pytest.mark.parametrize("kind", [Greedy, Sample])
def test_a_stop_string_cuts_the_text_and_ends_the_row(
    model: CaptionModel, kind: type[Greedy] | type[Sample]
) -> None:
    free = said_letters(model, kind)
    letters = Counter(sign for one in free for sign in one.text[3:] if sign.isascii())
    mark = max((sign for sign in letters if sign.isprintable() and sign != " "), key=letters.get)  # type: ignore[arg-type]
    cut = [row[0] for row in model.candidates(IMAGES, kind(20, stop_strings=(mark,)), IDS)]
    ended = 0
    for one, whole in zip(cut, free, strict=True):
        assert mark not in one.text
        assert whole.token_ids[: one.n_tokens] == one.token_ids
        if letter(model, mark) in whole.token_ids:
            assert one.n_tokens == whole.token_ids.index(letter(model, mark)) + 1
            ended += one.n_tokens < 20
        else:
            assert one.token_ids == whole.token_ids
    assert ended > 10


def test_a_stop_string_of_white_space_ends_the_row_at_once(model: CaptionModel) -> None:
    free = said_letters(model, Sample)
    line = letter(model, "\n")
    broken = [at for at, one in enumerate(free) if line in one.token_ids[1:-1]]
    assert broken
    settings = Sample(20, stop_strings=("\n",))
    cut = model.candidates(IMAGES[broken], settings, [IDS[at] for at in broken])
    for at, row in zip(broken, cut, strict=True):
        assert row[0].n_tokens == free[at].token_ids.index(line) + 1
        assert "\n" not in row[0].text


def test_a_caption_ended_by_a_stop_string_is_not_cut_again() -> None:
    """CLIPxGPT leaves the last token out where a caption ran into max_tokens, not elsewhere."""
    wording = Wording(drop_cut=True)
    say = {(1,): "one", (1, 2): "one;;two", (1, 2, 3): "one;;two;"}
    settings = Greedy(3, stop_strings=(";;",))

    def spelt(ids: object) -> str:
        return say[tuple(ids)]  # type: ignore[arg-type]

    assert caption_of(Generated((1, 2), -1.0), spelt, wording, settings).text == "one"
    half = Greedy(2, stop_strings=("two",))
    assert caption_of(Generated((1, 2), -1.0), spelt, wording, half).text == "one;;"
    assert caption_of(Generated((1, 2), -1.0), spelt, wording, Greedy(2)).text == "one"
