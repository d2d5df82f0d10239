"""The GPT-2 beside a mapper: configuration and tokenizer by name, weights from the checkpoint.

Shapes:  D token embedding   V vocabulary   T positions
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from captioner.errors import ModelError
from captioner.importing.weights import HEAD, TOKENS, LanguageShape
from captioner.language import LanguageModel
from captioner.quiet import quiet

_CONFIG: Any = AutoConfig  # transformers' annotations of these are wrong
_MODEL: Any = AutoModelForCausalLM
_TOKENIZER: Any = AutoTokenizer
_FAILURES = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError)
_PUBLISHED = {
    (768, 6): "distilbert/distilgpt2",
    (768, 12): "openai-community/gpt2",
    (1024, 24): "openai-community/gpt2-medium",
    (1280, 36): "openai-community/gpt2-large",
    (1600, 48): "openai-community/gpt2-xl",
}
"""The published GPT-2s, by width and layers."""


@dataclass(frozen=True, slots=True)
class Named:
    """A language model's configuration and tokenizer, without its weights."""

    name: str
    """Hub id, or the name of a local folder without its place."""
    revision: str | None
    """The hub's commit; None for a local folder."""
    config: Any
    tokenizer: Tokenizer
    end_id: int | None
    begin_id: int | None
    place: str
    """Where weights would be read from."""

    @property
    def width(self) -> int:
        """Width of a token embedding (D)."""
        return int(self.config.n_embd)


def published_name(shape: LanguageShape) -> str:
    """The hub id of the GPT-2 of that size; raises ModelError where none was published."""
    name = _PUBLISHED.get((shape.width, shape.layers))
    if name is None:
        raise ModelError(
            f"No published GPT-2 has width {shape.width} and {shape.layers} layers: name the "
            "configuration and tokenizer by --lm, a hub id or a folder."
        )
    return name


def read_named(name: str, *, offline: bool) -> Named:
    """Configuration and tokenizer of the GPT-2 called `name`: a local folder, or a hub id."""
    folder = Path(name)
    local = folder.is_dir()
    options: dict[str, Any] = {"local_files_only": offline or local, "trust_remote_code": False}
    try:
        with quiet():
            config = _CONFIG.from_pretrained(name, **options)
            revision = None if local else _commit(name)
            tokenizer = _TOKENIZER.from_pretrained(name, revision=revision or "main", **options)
    except _FAILURES as error:
        raise ModelError(_unreadable(name, error, offline=offline)) from error
    if config.model_type != "gpt2":
        raise ModelError(
            f"{name!r} is a {config.model_type} model, but these checkpoints were made with gpt2."
        )
    if not isinstance(getattr(tokenizer, "backend_tokenizer", None), Tokenizer):
        raise ModelError(f"{name!r} has no tokenizer.json to import.")
    return Named(
        name=folder.resolve().name if local else name,
        revision=revision,
        config=config,
        tokenizer=tokenizer.backend_tokenizer,
        end_id=_known(tokenizer.eos_token_id, config.eos_token_id),
        begin_id=_known(tokenizer.bos_token_id, config.bos_token_id),
        place=name,
    )


def check_fits(held: LanguageShape, named: Named) -> None:
    """Raise ModelError, naming both values, unless the checkpoint holds a model of that size."""
    config = named.config
    for what, ours, told in (
        ("width", held.width, config.n_embd),
        ("layers", held.layers, config.n_layer),
        ("vocabulary", held.vocabulary, config.vocab_size),
        ("positions", held.positions, config.n_positions),
    ):
        if ours != told:
            raise ModelError(
                f"The checkpoint's language model has {what} {ours}, but {named.name!r} has "
                f"{told}: give the right one by --lm."
            )


def outline(named: Named) -> Any:
    """The network without memory for its weights."""
    with quiet(), torch.device("meta"):
        return _MODEL.from_config(named.config, attn_implementation="sdpa")


def filled(network: Any, state: Mapping[str, Tensor], named: Named) -> LanguageModel:
    """The language model whose outline is `network`, with every weight of `state`."""
    network = network.to_empty(device="cpu")
    network.tie_weights()
    network.load_state_dict({**state, HEAD: state[TOKENS]}, strict=True)
    return LanguageModel(network, named.tokenizer)


def with_own_weights(named: Named, *, offline: bool) -> LanguageModel:
    """The language model with the weights published under its name, safetensors alone."""
    try:
        with quiet():
            network, found = _MODEL.from_pretrained(
                named.place,
                revision=named.revision or "main",
                dtype=torch.float32,
                local_files_only=offline or named.revision is None,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except _FAILURES as error:
        raise ModelError(_unreadable(named.name, error, offline=offline)) from error
    wrong = sorted(str(key) for kind in ("missing_keys", "mismatched_keys") for key in found[kind])
    if wrong:
        raise ModelError(f"The weights of {named.name!r} are not whole at: {', '.join(wrong)}.")
    return LanguageModel(network, named.tokenizer)


def _known(*ids: int | list[int] | None) -> int | None:
    return next((int(each) for each in ids if isinstance(each, int)), None)


def _commit(name: str) -> str | None:
    """The commit that the hub's answer was kept under."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - slow to import

    path = try_to_load_from_cache(name, "config.json")
    return Path(path).parent.name if isinstance(path, str) else None


def _unreadable(name: str, error: BaseException, *, offline: bool) -> str:
    reason = " ".join(str(error).split())[:160]
    if offline and not Path(name).exists():
        return (
            f"The language model {name!r} is no local folder, not in the local cache, and may "
            "not be fetched offline; give a folder by --lm."
        )
    return f"The language model {name!r} cannot be read: {reason}"
