"""nano's own byte-level BPE: a token for every word of the scene language, bytes for the rest."""

import random
from typing import Final

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from captioner import scenes

START: Final = "<|startoftext|>"
END: Final = "<|endoftext|>"
LARGEST: Final = 1_024
"""Most tokens the vocabulary may have, the 256 bytes included."""
_EVERYDAY: Final = """
the of and a to in is you that it he was for on are as with his they at be this have from or one
had by word but not what all were we when your can said there use an each which she do how their
if will up other about out many then them these so some her would make like him into time has
look two more write go see number no way could people my than first water been call who oil its
now find long down day did get come made may part picture image photo photograph drawing painting
icon stamp sign white black red green blue yellow brown gray orange purple pink small large big
little tall short round flat open closed old young new man woman boy girl child baby person dog
cat bird fish horse cow sheep animal tree flower leaf grass fruit food bread cheese table chair
door window house building street road car bus train plane boat ship bicycle bike wheel hand head
face eye ear nose mouth foot hair hat shirt shoe dress coat bag book paper pen phone computer
screen clock lamp light sun moon star sky cloud rain snow sea beach mountain river field park
garden kitchen room wall floor bed box bottle cup plate knife fork spoon ball game player team
sitting standing walking running riding holding wearing eating playing looking smiling sleeping
flying jumping front back side top bottom left right near next under over between behind inside
several group pair piece slice set view close background
"""


def train_tokenizer(seed: int = 0) -> Tokenizer:
    """Learn the vocabulary from captions of drawn scenes and a page of everyday words.

    Start and end have the two highest ids; the end must, because CLIP pools there (argmax).
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rng = random.Random(seed)  # noqa: S311 - phrasings, not secrets
    said = [
        scenes.captions(scene, 1, rng.randrange(2**32))[0] for scene in scenes.sample(4000, seed)
    ]
    words = [f" {word}" for word in _EVERYDAY.split()] * 2
    trainer = trainers.BpeTrainer(
        vocab_size=LARGEST - 2, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator([*said, *words], trainer)
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in (START, END)])
    return tokenizer


def token_ids(tokenizer: Tokenizer, texts: list[str], longest: int) -> Tensor:
    """Frame each text by start and end and pad: ids_BT, at most `longest` wide, end always kept."""
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    rows = [
        [start, *encoding.ids[: longest - 2], end] for encoding in tokenizer.encode_batch(texts)
    ]
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])
