"""What this machine will do with a model: pictures and captions a second, measured in a minute.

Shapes:  B batch   C embedding   H height   W width
Every step is timed by itself on made photographs, with the code and the batch size that a run has.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.captions import Captioner
from captioner.devices import Numerics
from captioner.encoders import Encoder
from captioner.photographs import photograph
from captioner.pictures import decode, phash
from captioner.scoring import clip_similarities

SIZE = (500, 375)
"""Width and height of a picture, as web collections are often resized to."""
_DIFFERENT = 16  # pictures made; decoding knows no cache that more would defeat


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


def expect(
    encoder: Encoder,
    model: Captioner,
    numerics: Numerics,
    *,
    score: bool = True,
    seconds: float = 8.0,
) -> Expectation:
    """Measure each step for `seconds` after one unmeasured turn; `score` counts the scoring too."""
    files = [photograph(*SIZE, seed=number) for number in range(_DIFFERENT)]
    batch = numerics.batch_size
    with ThreadPoolExecutor(numerics.threads) as decoders:

        def read(count: int = batch) -> list[Tensor]:
            chosen = [files[number % _DIFFERENT] for number in range(count)]
            return list(decoders.map(lambda data: _prepared(data, encoder), chosen))

        pixels_BCHW = torch.stack(read())
        decoding = Rate("decode", _rate(lambda: len(read()), seconds))
    embedding = Rate("embed", _rate(lambda: len(encoder.encode_images(pixels_BCHW)), seconds))
    image_BC = _varied(encoder.encode_images(pixels_BCHW))
    written = model.candidates(image_BC, model.decoding)
    captioning = Rate(
        "caption", _rate(lambda: len(model.candidates(image_BC, model.decoding)), seconds)
    )
    rates = [decoding, embedding, captioning]
    if score:
        texts = [row[0].text for row in written]
        rates.append(Rate("score", _rate(lambda: _scored(encoder, texts, image_BC), seconds)))
    lengths = [caption.n_tokens for row in written for caption in row]
    return Expectation(
        rates=tuple(rates),
        tokens=sum(lengths) / len(lengths),
        overlapped=numerics.device != "cpu",
    )


def _prepared(data: bytes, encoder: Encoder) -> Tensor:
    """What the embed stage makes of a picture."""
    picture = decode(data, shrink_to=encoder.image_size)
    phash(picture)
    return encoder.preprocess(picture.rgb)


def _varied(image_BC: Tensor) -> Tensor:
    """Embeddings that differ from row to row by a little: made photographs are few."""
    generator = torch.Generator().manual_seed(0)
    noise_BC = torch.randn(image_BC.shape, generator=generator)
    return image_BC + 0.1 * image_BC.std() * noise_BC


def _scored(encoder: Encoder, texts: Sequence[str], image_BC: Tensor) -> int:
    return len(clip_similarities(encoder, texts, image_BC))


def _rate(work: Callable[[], int], seconds: float) -> float:
    """Pictures a second, over whole turns; at least one after the one that warms up."""
    work()
    began, done = time.perf_counter(), 0
    while True:
        done += work()
        passed = time.perf_counter() - began
        if passed >= seconds:
            return done / passed
