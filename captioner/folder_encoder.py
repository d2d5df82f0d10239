"""Encoders kept in a folder: an open_clip model with a byte-level BPE of its own, as safetensors.

Reads config.json (format, model_cfg, preprocess, normalized), model.safetensors with the keys
of open_clip's CLIP, and tokenizer.json. `nano` is one of these.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from captioner.configs import Form, read_config
from captioner.errors import ModelError
from captioner.open_clip_encoder import ClipEncoder, place, preprocessing
from captioner.tokens import read_tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"


class TextTokens:
    """Texts to rows of token ids: start, text cut to fit, end, then zeros."""

    def __init__(self, tokenizer: Tokenizer, context_length: int) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.start_id, self.end_id = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
        if self.start_id is None or self.end_id is None:
            raise ModelError(f"The encoder's tokenizer lacks {START} or {END}.")

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids token_BT with T = context_length."""
        token_BT = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        rows = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        for row, encoded in enumerate(rows):
            inner = encoded.ids[: self.context_length - 2]
            ids = [self.start_id, *inner, self.end_id]
            token_BT[row, : len(ids)] = torch.tensor(ids)
        return token_BT


def load_folder(folder: Path, name: str, form: Form, *, device: str, dtype: str) -> ClipEncoder:
    """The encoder in `folder`, called `name`; raises ModelError if its files do not fit."""
    config = read_config(folder)
    if config.get("format") != 1:
        raise ModelError(
            f"The encoder in {str(folder)!r} has format {config.get('format')!r}, not 1."
        )
    model = _build(config, folder)
    tokenizer = read_tokenizer(folder / "tokenizer.json")
    return ClipEncoder(
        name=name,
        model=place(model, device, dtype),
        transform=preprocessing(config["preprocess"]),
        tokens=TextTokens(tokenizer, model.context_length),
        form=form,
    )


def _build(config: dict[str, Any], folder: Path) -> Any:
    try:
        model = open_clip.CLIP(**config["model_cfg"])
        weights = load_file(folder / "model.safetensors")
        model.load_state_dict({key: value.float() for key, value in weights.items()})
    except (KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"The encoder in {str(folder)!r} is not whole: {reason}") from error
    return model
