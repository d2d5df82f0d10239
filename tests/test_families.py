"""Each published captioner, batched and cached, writes what its plain re-statement writes."""

from dataclasses import dataclass, replace
from functools import cache, partial

import pytest
import torch
from plain_families import Opening as PlainOpening
from plain_families import (
    State,
    clipcap_beam,
    clipcap_greedy,
    clipxgpt_greedy,
    clipxgpt_opening,
    gpt2,
    prefix_then_tokens,
)
from tiny_families import BOS_ID, FAMILIES, TOKENIZER, Family, random_pair
from torch import Tensor

from captioner.captions import Caption
from captioner.configs import Opening
from captioner.decoding import Beam, Decoding, Greedy
from captioner.mappers import EncoderMapper
from captioner.model import CaptionModel

IMAGES = 200


@dataclass(frozen=True)
class Case:
    """A family with random weights, the images it is tried on, and what it plainly does."""

    family: Family
    state: State
    model: CaptionModel
    images: Tensor
    prefixes: list[Tensor]
    greedy: list[list[int]]
    """With the stop token, where one was met."""


@pytest.fixture(scope="module", params=list(FAMILIES))
def case(request: pytest.FixtureRequest) -> Case:
    return plainly(request.param)


@pytest.fixture(
    scope="module", params=["clipcap-mlp", "clipcap-transformer", "vlm-fun", "clipxgpt-s"]
)
def beam_case(request: pytest.FixtureRequest) -> Case:
    """Every family; CLIPxGPT's sizes differ in nothing that beams see."""
    return plainly(request.param)


@pytest.fixture(scope="module")
def beams(beam_case: Case) -> list[list[list[int]]]:
    """Each image's five beams in plain steps, best first, with their stop tokens."""
    return plain_beams(beam_case)


@cache
@torch.no_grad()
def plainly(name: str) -> Case:
    family = FAMILIES[name]
    model, state = random_pair(family)
    images = torch.randn(IMAGES, family.image_dim)
    prefixes = [family.prefix(state, image_C) for image_C in images]
    stop, most = family.stop_id, family.max_tokens
    if family.opening.kind == "clipxgpt":
        greedy = [clipxgpt_greedy(state, one, BOS_ID, stop, most) for one in prefixes]
    else:
        greedy = [clipcap_greedy(state, one, stop, most) for one in prefixes]
    return Case(family, state, model, images, prefixes, greedy)


@torch.inference_mode()
def plain_beams(case: Case) -> list[list[list[int]]]:
    family = case.family
    twice = family.opening.kind == "clipxgpt"
    inputs = clipxgpt_opening(BOS_ID) if twice else prefix_then_tokens
    return [
        clipcap_beam(
            partial(_next_logits, case.state, inputs, prefix_PD), family.stop_id, family.max_tokens
        )
        for prefix_PD in case.prefixes
    ]


def _next_logits(
    state: State, inputs: PlainOpening, prefix_PD: Tensor, rows: list[list[int]]
) -> Tensor:
    return gpt2(state, torch.stack([inputs(state, prefix_PD, row) for row in rows]))


def in_batches(case: Case, images: Tensor, decoding: Decoding, size: int) -> list[list[Caption]]:
    return [row for part in images.split(size) for row in case.model.candidates(part, decoding)]


def greedy_of(family: Family) -> Greedy:
    return Greedy(family.max_tokens, (family.stop_id,))


def without_stop(family: Family, tokens: list[int]) -> tuple[int, ...]:
    assert family.stop_id not in tokens[:-1]
    return tuple(tokens[:-1] if tokens[-1] == family.stop_id else tokens)


def test_prefixes_are_those_of_the_plain_mapper(case: Case) -> None:
    plain = torch.stack(case.prefixes)
    with torch.inference_mode():
        for size in (1, 7, 64):
            parts = [case.model.prefix(part) for part in case.images.split(size)]
            torch.testing.assert_close(torch.cat(parts), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_greedy_tokens_are_those_of_the_plain_loop(case: Case, size: int) -> None:
    family = case.family
    rows = in_batches(case, case.images, greedy_of(family), size)
    plain = [without_stop(family, tokens) for tokens in case.greedy]
    assert [row[0].token_ids for row in rows] == plain


@pytest.mark.parametrize("size", [1, 7, 64])
def test_beam_tokens_are_those_of_clipcaps_plain_loop(
    beam_case: Case, beams: list[list[list[int]]], size: int
) -> None:
    family = beam_case.family
    decoding = Beam(family.max_tokens, (family.stop_id,), beams=5, n=5, mode="clipcap")
    some = IMAGES if size > 1 else 70  # one by one they take longest
    rows = in_batches(beam_case, beam_case.images[:some], decoding, size)
    plain = [[without_stop(family, beam) for beam in image] for image in beams[:some]]
    assert [[one.token_ids for one in row] for row in rows] == plain


def test_greedy_captions_stop_at_many_lengths(case: Case) -> None:
    """Rows that all run to the end would not show that a row which ended is left alone."""
    assert_many_lengths(case.family, case.greedy)


def test_best_beams_stop_at_many_lengths(beam_case: Case, beams: list[list[list[int]]]) -> None:
    assert_many_lengths(beam_case.family, [image[0] for image in beams])


def assert_many_lengths(family: Family, rows: list[list[int]]) -> None:
    early = [row for row in rows if row[-1] == family.stop_id and len(row) < family.max_tokens]
    cut = [row for row in rows if row[-1] != family.stop_id]
    assert len(early) >= IMAGES / 3
    assert len(cut) >= IMAGES / 20
    assert len({len(row) for row in rows}) >= 6
    assert len({tuple(row) for row in rows}) >= IMAGES / 2


def test_clipcap_keeps_its_full_stop_and_the_others_keep_no_stop(case: Case) -> None:
    texts = [row[0].text for row in in_batches(case, case.images, greedy_of(case.family), 64)]
    assert texts == [plain_text(case.family, tokens) for tokens in case.greedy]
    ends_in_stop = sum(text.endswith(".") for text in texts)
    assert (ends_in_stop > IMAGES / 3) == case.family.wording.keep_stop


def plain_text(family: Family, tokens: list[int]) -> str:
    """ClipCap decodes the stop token too, vlm-fun leaves it out, CLIPxGPT drops any last token."""
    if family.wording.keep_stop:
        return say(tokens)
    if family.wording.drop_cut:
        text = say(tokens[:-1])
        return text[:1].upper() + text[1:]
    return say([token for token in tokens if token != family.stop_id])


def say(tokens: list[int]) -> str:
    return str(TOKENIZER.decode(tokens, skip_special_tokens=True)).strip()


def test_clipxgpts_added_positions_decide_what_is_said() -> None:
    """If they changed nothing here, the comparisons above would not prove the quirk."""
    case = plainly("clipxgpt-s")
    plain = replace(case.model.config, opening=Opening(kind="bos", bos_id=BOS_ID))
    other = CaptionModel(plain, case.model.language).eval()
    other.load_state_dict(case.model.state_dict())
    decoding = greedy_of(case.family)
    with_quirk = case.model.caption_embeddings(case.images, decoding)
    without = other.caption_embeddings(case.images, decoding)
    differ = [one.token_ids != two.token_ids for one, two in zip(with_quirk, without, strict=True)]
    assert sum(differ) > IMAGES / 2


def test_an_image_is_alone_in_clipxgpts_mapper_unless_training_says_otherwise() -> None:
    case = plainly("clipxgpt-s")
    mapper = case.model.mapper
    assert isinstance(mapper, EncoderMapper)
    with torch.inference_mode():
        alone = mapper(case.images[:5])
        mapper.across_batch = True
        together, single = mapper(case.images[:5]), mapper(case.images[:1])
        mapper.across_batch = False
    torch.testing.assert_close(single, alone[:1], rtol=1e-5, atol=1e-5)
    assert (together - alone).abs().max() > 0.1
