"""Captions like COCO's and models with random weights, as Nightcap and as the peer hold them."""

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import TensorDataset
from transformers import AutoModelForCausalLM, GPT2Config

from benchmarks.training_peer import ClipCaption, padded
from captioner.configs import EncoderSpec, MapperConfig, ModelConfig
from captioner.decoding import Greedy
from captioner.encoders import NANO_ENCODER
from captioner.examples import ExampleFile, write_examples
from captioner.language import LanguageModel
from captioner.model import CaptionModel
from captioner.tokens import read_tokenizer

IMAGE_DIM, PREFIX, CAPTIONS = 512, 10, 5


@dataclass(frozen=True, slots=True)
class Data:
    """Pictures as embeddings, with the tokens of five captions each."""

    image_NC: npt.NDArray[np.float32]
    captions: list[list[list[int]]]

    def flat(self, end: int | None = None) -> list[list[int]]:
        """All captions, with an end token where one is given."""
        return [[*one, *([end] if end else [])] for five in self.captions for one in five]


def like_coco(pictures: int, vocabulary: int, seed: int) -> Data:
    """Captions with about 12 tokens on average, 2.6 deviation and a long tail, 8 at least.

    A picture has one of 64 subjects, which its embedding shows; four tokens in five follow from
    subject and place, the others are drawn. Token 0 and the last are left out.
    """
    draw, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    seen_KC = fixed.standard_normal((64, IMAGE_DIM))
    said_KT = fixed.integers(1, vocabulary - 1, size=(64, 80))
    subject_N = draw.integers(64, size=pictures)
    image_NC = seen_KC[subject_N] + 0.5 * draw.standard_normal((pictures, IMAGE_DIM))
    captions = []
    for subject in subject_N:
        lengths = 7 + np.round(draw.lognormal(1.49, 0.489, CAPTIONS)).astype(int).clip(1, 60)
        rows = [
            np.where(
                draw.random(n) < 0.8, said_KT[subject, :n], draw.integers(1, vocabulary - 1, n)
            )
            for n in lengths
        ]
        captions.append([row.tolist() for row in rows])
    return Data(image_NC.astype(np.float32), captions)


def fresh_model(seed: int, **shape: int) -> CaptionModel:
    """An MLP mapper before a GPT-2 with random weights; its last token ends a caption."""
    torch.manual_seed(seed)
    auto: Any = AutoModelForCausalLM
    settings = GPT2Config(**shape, bos_token_id=None, eos_token_id=None)
    network = auto.from_config(settings, attn_implementation="sdpa")
    language = LanguageModel(network, read_tokenizer(NANO_ENCODER / "tokenizer.json"))
    config = ModelConfig(
        encoder=EncoderSpec(name="", dim=IMAGE_DIM),
        mapper=MapperConfig(
            image_dim=IMAGE_DIM, token_dim=language.token_dim, prefix_tokens=PREFIX
        ),
        standardise=False,
        decoding=Greedy(67, (language.vocabulary - 1,)),
    )
    return CaptionModel(config, language)


def as_peer(model: CaptionModel) -> ClipCaption:
    """The same weights as the peer holds them."""
    peer = ClipCaption(copy.deepcopy(model.language.network), IMAGE_DIM, PREFIX)
    state = {key.removeprefix("layers."): value for key, value in model.mapper.state_dict().items()}
    peer.clip_project.load_state_dict(state)
    return peer


def peer_data(data: Data, end: int) -> TensorDataset:
    """What the peer trains on: padded tokens with an end token, which ours learns too."""
    token_NT, mask_NT = padded(data.flat(end))
    return TensorDataset(token_NT, mask_NT, torch.from_numpy(data.image_NC.repeat(CAPTIONS, 0)))


@contextmanager
def stored(data: Data) -> Iterator[ExampleFile]:
    """The same for ours: on disk."""
    pairs = (
        (image, [" ".join(map(str, one)) for one in five])
        for image, five in zip(data.image_NC, data.captions, strict=True)
    )
    with tempfile.TemporaryDirectory() as folder:
        yield write_examples(
            Path(folder), pairs, lambda text: [int(word) for word in text.split()], max_tokens=67
        )
