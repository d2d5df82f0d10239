"""Greedy decoding against a plain re-statement of it: one row, no cache, whole sequences."""

import json

import pytest
import torch
from tiny_models import DIM, tiny_model
from torch import Tensor

from captioner.captions import Caption
from captioner.decoding import Greedy, decoding_from_json
from captioner.errors import ModelError
from captioner.model import CaptionModel

# A random network hardly ever says its end token, so one likely token in eight stops a caption.
STOPS = tuple(range(0, 258, 8))


@torch.no_grad()
def plain_greedy(
    model: CaptionModel, image_C: Tensor, max_tokens: int, stop_ids: tuple[int, ...]
) -> tuple[list[int], float]:
    """What greedy decoding is, in the fewest words: no batch, no cache."""
    sequence = model.prefix(image_C[None])
    said: list[int] = []
    logprob = 0.0
    for _ in range(max_tokens):
        logits = model.language.network(inputs_embeds=sequence, use_cache=False).logits[0, -1]
        chances = torch.log_softmax(logits.double(), dim=-1)
        token = int(chances.argmax())
        logprob += float(chances[token])
        if token in stop_ids:
            break
        said.append(token)
        embedded = model.language.network.get_input_embeddings()(torch.tensor([[token]]))
        sequence = torch.cat([sequence, embedded], dim=1)
    return said, logprob


@pytest.fixture(scope="module")
def model() -> CaptionModel:
    return tiny_model(seed=3)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(64, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def plainly(model: CaptionModel, images: Tensor) -> list[tuple[list[int], float]]:
    return [plain_greedy(model, image_C, 16, STOPS) for image_C in images]


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_batched_cached_decoding_writes_what_the_plain_loop_writes(
    model: CaptionModel, images: Tensor, plainly: list[tuple[list[int], float]], batch: int
) -> None:
    captions = caption_in_batches(model, images, Greedy(16, STOPS), batch)
    for caption, (said, logprob) in zip(captions, plainly, strict=True):
        assert list(caption.token_ids) == said
        assert caption.logprob == pytest.approx(logprob, rel=1e-5, abs=1e-5)
    lengths = {caption.n_tokens for caption in captions}
    assert len(lengths) > 3, "the rows must stop at different lengths for this to prove anything"


def test_the_stop_token_counts_in_the_logprob_and_nowhere_else(
    model: CaptionModel, images: Tensor
) -> None:
    without = model.caption_embeddings(images[:1], Greedy(12))[0]
    assert without.n_tokens == 12
    first_time = {token: at for at, token in reversed(list(enumerate(without.token_ids)))}
    stop, at = max(first_time.items(), key=lambda item: item[1])
    stopped = model.caption_embeddings(images[:1], Greedy(12, (stop,)))[0]
    cut = model.caption_embeddings(images[:1], Greedy(at + 1))[0]
    assert stopped.token_ids == without.token_ids[:at]
    assert stopped.logprob == pytest.approx(cut.logprob, abs=1e-6)
    assert cut.token_ids[-1] == stop


def test_a_row_is_captioned_alike_in_any_company(model: CaptionModel, images: Tensor) -> None:
    decoding = Greedy(16, STOPS)
    together = model.caption_embeddings(images, decoding)
    turned = model.caption_embeddings(images.flip(0), decoding)[::-1]
    assert [one.token_ids for one in together] == [one.token_ids for one in turned]


def test_no_rows_give_no_captions(model: CaptionModel) -> None:
    assert model.caption_embeddings(torch.zeros(0, DIM)) == []


def test_a_caption_longer_than_the_positions_is_refused(
    model: CaptionModel, images: Tensor
) -> None:
    with pytest.raises(ModelError, match="64; lower max_tokens"):
        model.caption_embeddings(images[:1], Greedy(62))
    assert model.caption_embeddings(images[:1], Greedy(61))[0].n_tokens == 61


def test_a_strategy_survives_json_with_its_stop_ids_as_a_tuple() -> None:
    decoding = Greedy(max_tokens=9, stop_ids=(4, 2))
    assert decoding_from_json(json.loads(json.dumps(decoding.to_json()))) == decoding
    assert Greedy(9, [4, 2]).stop_ids == (4, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "magic"}, "'magic' is not known"),
        ({"strategy": "greedy", "beams": 5}, "'greedy' are not valid"),
        ({"strategy": "greedy", "max_tokens": 0}, "at least 1, got 0"),
    ],
)
def test_a_wrong_strategy_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        decoding_from_json(settings)


def caption_in_batches(
    model: CaptionModel, images: Tensor, decoding: Greedy, size: int
) -> list[Caption]:
    parts = [images[at : at + size] for at in range(0, len(images), size)]
    return [caption for part in parts for caption in model.caption_embeddings(part, decoding)]


def test_embeddings_that_are_not_finite_are_named(model: CaptionModel, images: Tensor) -> None:
    broken = images[:3].clone()
    broken[1, 2] = torch.nan
    with pytest.raises(ModelError, match="Embedding 1 holds NaN"):
        model.caption_embeddings(broken)
    assert model.caption_embeddings(images[:0]) == []
