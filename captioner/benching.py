"""What this machine will do with a model: pictures and captions a second, measured in a minute.

Shapes:  B batch   C embedding   H height   W width
Every step is timed by itself on made photographs, with the code and the numerics of its stage.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.alignment import cosines
from captioner.captions import Caption, Captioner
from captioner.devices import Numerics
from captioner.encoders import Encoder
from captioner.photographs import photograph
from captioner.pictures import decode, phash

SIZE = (500, 375)
"""Width and height of a picture, as web collections are often resized to."""
_DIFFERENT = 16  # pictures made; decoding knows no cache that more would defeat
_ROWS = 10_000
"""Rows that the caption stage hands over at once."""
_REFILLED = 2
"""Batches of captions that are written at least: one alone only drains its slots."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """The stage that reads pictures."""

    encoder: Encoder
    numerics: Numerics


@dataclass(frozen=True, slots=True)
class Captioning:
    """The stage that writes captions, and scores them where it has a scorer."""

    captioner: Captioner
    scorer: Encoder | None
    numerics: Numerics


@dataclass(frozen=True, slots=True)
class Rate:
    """One step of a run."""

    name: str
    """`decode`, `embed`, `caption` or `score`."""
    per_second: float
    """Pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a run will come to."""

    rates: tuple[Rate, ...]
    tokens: float
    """Mean length of the captions that were written; longer ones take longer."""
    overlapped: bool
    """Whether decoding goes on beside the encoder's work, as it does where that is on a GPU."""

    @property
    def seconds_per_picture(self) -> float:
        """All steps one after the other; of decoding and embedding only the slower one, if they
        go on beside each other."""
        each = {rate.name: 1 / rate.per_second for rate in self.rates}
        if self.overlapped:
            slower = max(each.pop("decode"), each.pop("embed"))
            return slower + sum(each.values())
        return sum(each.values())

    @property
    def bottleneck(self) -> str:
        """The step that takes longest."""
        return min(self.rates, key=lambda rate: rate.per_second).name

    @property
    def hours_per_million(self) -> float:
        """For 1,000,000 pictures on one such machine."""
        return self.seconds_per_picture * 1e6 / 3600


def expect(embedding: Embedding, captioning: Captioning, *, seconds: float = 8.0) -> Expectation:
    """Measure each step for `seconds`, and captions for two batches at least."""
    files = [photograph(*SIZE, seed=number) for number in range(_DIFFERENT)]
    encoder, numerics = embedding.encoder, embedding.numerics
    with ThreadPoolExecutor(numerics.threads) as decoders:

        def read() -> list[Tensor]:
            chosen = [files[number % _DIFFERENT] for number in range(numerics.batch_size)]
            return list(decoders.map(lambda data: _prepared(data, encoder), chosen))

        pixels_BCHW = torch.stack(read())
        rates = [Rate("decode", _rate(lambda: len(read()), seconds))]
    rates.append(Rate("embed", _rate(lambda: len(encoder.encode_images(pixels_BCHW)), seconds)))
    image_BC = encoder.encode_images(pixels_BCHW)
    written, writing = _writing(captioning, image_BC, seconds)
    rates.append(writing)
    if scorer := captioning.scorer:
        rates.append(_scoring(scorer, written, image_BC, seconds))
    lengths = [caption.n_tokens for row in written for caption in row]
    return Expectation(
        rates=tuple(rates),
        tokens=sum(lengths) / len(lengths),
        overlapped=numerics.device != "cpu",
    )


def _writing(
    stage: Captioning, image_BC: Tensor, seconds: float
) -> tuple[list[list[Caption]], Rate]:
    """A batch of captions; and how many come a second where slots refill, for as long as asked.

    How long the batch takes says how many to give at once.
    """
    model, at_once = stage.captioner, stage.numerics.batch_size

    def write(batches: int) -> list[list[Caption]]:
        return model.candidates(_varied(image_BC, batches * at_once), model.decoding)

    began = time.perf_counter()
    written = write(1)
    wished = round(seconds / (time.perf_counter() - began))
    batches = max(_REFILLED, min(wished, _ROWS // at_once))
    return written, Rate("caption", _measured(lambda: len(write(batches)), seconds))


def _scoring(
    scorer: Encoder, written: list[list[Caption]], image_BC: Tensor, seconds: float
) -> Rate:
    """Captions scored a second if all are different, as those of unlike pictures are."""
    texts = list({row[0].text: None for row in written})
    scored_BC, owner = _varied(image_BC, len(texts)), range(len(texts))
    return Rate("score", _rate(lambda: len(cosines(scorer, texts, scored_BC, owner).own), seconds))


def _prepared(data: bytes, encoder: Encoder) -> Tensor:
    """What the embed stage makes of a picture."""
    picture = decode(data, shrink_to=encoder.image_size)
    phash(picture)
    return encoder.preprocess(picture.rgb)


def _varied(image_BC: Tensor, count: int) -> Tensor:
    """So many embeddings that differ from row to row by a little: made photographs are few."""
    generator = torch.Generator().manual_seed(0)
    many_BC = image_BC.repeat(-(-count // len(image_BC)), 1)[:count]
    noise_BC = torch.randn(many_BC.shape, generator=generator)
    return many_BC + 0.1 * image_BC.std() * noise_BC


def _rate(work: Callable[[], int], seconds: float) -> float:
    """Pictures a second, after a turn that warms up."""
    work()
    return _measured(work, seconds)


def _measured(work: Callable[[], int], seconds: float) -> float:
    """Pictures a second, over whole turns; at least one."""
    began, done = time.perf_counter(), 0
    while True:
        done += work()
        passed = time.perf_counter() - began
        if passed >= seconds:
            return done / passed
