"""Language models by name: nano's own, one in a folder, or one of the Hugging Face hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from captioner.configs import ModelConfig, read_config
from captioner.errors import ModelError
from captioner.language import LanguageModel, load_language
from captioner.language_files import local_language
from captioner.offline import is_offline
from captioner.quiet import quiet

_MODELS: Any = AutoModelForCausalLM  # transformers' annotations of these are wrong
_TOKENIZERS: Any = AutoTokenizer


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A language model that has learnt a language before it meets a picture."""

    language: LanguageModel
    end_id: int
    """The token that ends a text; it begins one too where the model has no other for that."""
    begin_id: int


def load_pretrained(name: str, *, offline: bool = False) -> Pretrained:
    """The language model called `name`, in float32 on the CPU.

    `nano` is the packaged captioner's, a folder holds a model of Nightcap's or a transformers
    model, and anything else is an id of the hub, of which only safetensors are read and no code
    is run. Raises ModelError if there is none, or none that ends its texts.
    """
    folder = local_language(name)
    if folder and (folder / "lm").is_dir():
        return _of_nightcap(folder)
    offline = is_offline(offline)
    source: str | Path = folder or name
    language = LanguageModel(_network(source, offline), _tokenizer(source, offline))
    config = language.network.config
    end = language.end_id
    if end is None:
        raise ModelError(f"The language model {name!r} names no token that ends a text.")
    begin = config.bos_token_id
    return Pretrained(language, end, end if begin is None else int(begin))


def _of_nightcap(folder: Path) -> Pretrained:
    config = ModelConfig.from_json(read_config(folder))
    if not config.decoding.stop_ids:
        raise ModelError(f"The model in {str(folder)!r} has no stop token.")
    end = config.decoding.stop_ids[0]
    begin = config.opening.bos_id
    return Pretrained(load_language(folder), end, end if begin is None else begin)


def _network(source: str | Path, offline: bool) -> Any:
    try:
        with quiet():
            network, found = _MODELS.from_pretrained(
                source,
                dtype=torch.float32,
                local_files_only=offline or isinstance(source, Path),
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(_why(source, error)) from error
    if found["missing_keys"] or found["mismatched_keys"]:
        wrong = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]]))
        raise ModelError(f"The language model {str(source)!r} lacks weights: {', '.join(wrong)}.")
    return network


def _tokenizer(source: str | Path, offline: bool) -> Tokenizer:
    try:
        with quiet():
            tokenizer = _TOKENIZERS.from_pretrained(
                source,
                local_files_only=offline or isinstance(source, Path),
                trust_remote_code=False,
            )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(_why(source, error)) from error
    backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(f"The tokenizer of {str(source)!r} is not one of the fast ones.")
    return backend


def _why(source: str | Path, error: BaseException) -> str:
    reason = " ".join(str(error).split())[:300]
    return (
        f"The language model {str(source)!r} cannot be loaded: {reason} "
        "Give a folder, an id of the hub that can be reached, or nano."
    )
