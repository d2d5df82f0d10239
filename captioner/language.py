"""The language model behind a prefix: any causal model of transformers that takes embeddings.

Shapes:  B batch   T sequence   D token embedding   V vocabulary
"""

import errno
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config

from captioner.engine.gpt2 import Gpt2Weights, can_run
from captioner.errors import ModelError
from captioner.quiet import quiet
from captioner.tokens import read_tokenizer

_BLOCK = re.compile(r"\.(\d+)\.")
_AUTO: Any = AutoModelForCausalLM  # transformers' annotations of it are wrong


class LanguageModel(nn.Module):
    """A causal language model and its tokenizer; nothing is assumed of either's special tokens."""

    def __init__(self, network: Any, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.network = network
        self.tokenizer = tokenizer
        takes = inspect.signature(network.forward).parameters
        self._cache_name = "cache" if "cache" in takes else "past_key_values"  # before 5.24
        self.int8 = False
        """Write captions with products in 8 bits."""
        self._laid_out: tuple[Any, Gpt2Weights] | None = None
        self.revision: str = getattr(network.config, "_commit_hash", None) or ""
        """The hub's commit of its weights; empty where they are no hub's."""
        if tokenizer.get_vocab_size() > self.vocabulary:
            raise ModelError(
                f"The tokenizer has {tokenizer.get_vocab_size()} tokens, the language model "
                f"only {self.vocabulary}."
            )

    @property
    def vocabulary(self) -> int:
        """Tokens that the network tells apart (V)."""
        return int(self.network.config.vocab_size)

    @property
    def token_dim(self) -> int:
        """Width of a token embedding (D)."""
        return int(self.network.get_input_embeddings().embedding_dim)

    @property
    def positions(self) -> int:
        """The longest sequence the network can read, prefix included; huge if nothing says."""
        return int(getattr(self.network.config, "max_position_embeddings", sys.maxsize))

    @property
    def position_table(self) -> Tensor | None:
        """GPT-2's position embeddings position_TD, T being `positions`; None for other families."""
        table = getattr(self.network.base_model, "wpe", None)
        return None if table is None else table.weight

    @property
    def end_id(self) -> int | None:
        """The token with which this family ends a text; None where its files name none."""
        end = self.network.config.eos_token_id
        return int(end[0]) if isinstance(end, list) else end

    def check_room(self, tokens: int) -> None:
        """Raise ModelError unless a sequence of so many tokens has positions."""
        if tokens > self.positions:
            raise ModelError(
                f"The prefix and max_tokens take {tokens} positions, but the language model has "
                f"{self.positions}; lower max_tokens."
            )

    def embed(self, token_BT: Tensor) -> Tensor:
        """Embeddings token_BTD without positions, which the network adds itself."""
        embedded_BTD: Tensor = self.network.get_input_embeddings()(token_BT)
        return embedded_BTD

    def read(self, inputs_BTD: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Read `inputs_BTD` after what `cache` holds: next_BV logits of the last one, cache."""
        given = {self._cache_name: cache}
        output = self.network(inputs_embeds=inputs_BTD, use_cache=True, logits_to_keep=1, **given)
        return output.logits[:, -1], output[self._cache_name]

    def inference_weights(self) -> Gpt2Weights | None:
        """The network's weights laid out for writing captions; None where it is no GPT-2.

        They are laid out when first asked for, and again after they have changed.
        """
        if not can_run(self.network):
            if self.int8:
                raise ModelError("dtype int8 is for GPT-2 language models; use another dtype.")
            return None
        mark = [_state_of(weight) for weight in self.network.parameters()]
        if self._laid_out is None or self._laid_out[0] != mark:
            self._laid_out = mark, Gpt2Weights(self.network, int8=self.int8)
        return self._laid_out[1]

    def logits(self, inputs_BTD: Tensor, last: int, seen_BT: Tensor | None = None) -> Tensor:
        """The logits at the `last` positions of whole sequences: logits_BTV with T = last.

        Positions where `seen_BT` is False are not attended to.
        """
        output = self.network(
            inputs_embeds=inputs_BTD, attention_mask=seen_BT, use_cache=False, logits_to_keep=last
        )
        logits_BTV: Tensor = output.logits
        return logits_BTV

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of generated tokens, white space at its ends included."""
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, with nothing put before or after."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def ends(self, *, tensors: int = 0, blocks: int = 0) -> set[str]:
        """Names of the parameters at the network's two ends; all of them where both are 0.

        `tensors` counts parameter tensors as CLIPxGPT does, `blocks` whole blocks, to which the
        embeddings and the last norm are added. Raises ModelError for more than there are.
        """
        names = [name for name, _ in self.network.named_parameters()]
        if not tensors and not blocks:
            return set(names)
        if tensors:
            if 2 * tensors > len(names):
                raise ModelError(f"The language model has {len(names)} tensors, not 2 x {tensors}.")
            return {*names[:tensors], *names[-tensors:]}
        numbers = {name: _BLOCK.search(name) for name in names}
        count = 1 + max((int(found[1]) for found in numbers.values() if found), default=-1)
        if 2 * blocks > count:
            raise ModelError(f"The language model has {count} blocks, not 2 x {blocks}.")
        inner = range(blocks, count - blocks)
        return {name for name, found in numbers.items() if not found or int(found[1]) not in inner}

    def untied_state(self) -> dict[str, Tensor]:
        """The network's weights, those shared by two layers only once: transformers ties them."""
        state = self.network.state_dict()
        first = {value.data_ptr(): key for key, value in reversed(state.items())}
        return {key: state[key].contiguous() for key in sorted(first.values())}

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write lm/ in transformers' layout and tokenizer/ into `folder`."""
        (folder / "lm").mkdir()
        (folder / "tokenizer").mkdir()
        self.network.config.to_json_file(folder / "lm" / "config.json")
        state = {key: value.to("cpu", dtype) for key, value in self.untied_state().items()}
        weights = folder / "lm" / "model.safetensors"
        try:  # tensor by tensor, not as one string of bytes
            save_file(state, weights, metadata={"format": "pt"})
        except SafetensorError as error:  # its way of saying that a disk is full
            raise OSError(errno.EIO, str(error), str(weights)) from error
        weights.chmod((folder / "lm" / "config.json").stat().st_mode)  # it shuts others out
        self.tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))


def _state_of(weight: Tensor) -> tuple[int, int]:
    """Changes whenever a weight does."""
    version = 0 if weight.is_inference() else weight._version  # noqa: SLF001 - torch has no other
    return weight.data_ptr(), version


def fresh_gpt2(tokenizer: Tokenizer, *, width: int, layers: int, positions: int) -> LanguageModel:
    """A small untrained GPT-2 for `tokenizer`, with heads 32 or 64 wide and no dropout."""
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_positions=positions,
        n_embd=width,
        n_layer=layers,
        n_head=max(1, width // (64 if width >= 512 else 32)),
        activation_function="gelu_pytorch_tanh",  # GPT-2's own function, in one kernel
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    network = _AUTO.from_config(config, attn_implementation="sdpa")
    return LanguageModel(network, tokenizer)


def load_language(folder: Path, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """The model that `save` wrote into `folder`; raises ModelError if anything does not fit."""
    try:
        with quiet():
            network, found = _AUTO.from_pretrained(
                folder / "lm",
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{str(folder / 'lm')!r} cannot be loaded: {reason}") from error
    wrong = {kind: sorted(map(str, keys)) for kind, keys in found.items() if keys}
    if wrong:
        raise ModelError(f"{str(folder / 'lm')!r} does not fit its config.json: {wrong}.")
    return LanguageModel(network, read_tokenizer(folder / "tokenizer" / "tokenizer.json"))
