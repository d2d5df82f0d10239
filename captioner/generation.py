"""The loop behind greedy decoding: batched, with a key-value cache, and exact log-probabilities.

Shapes:  B batch   P prefix tokens   D token embedding   V vocabulary
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from captioner.decoding import Generated


class TokenModel(Protocol):
    """What decoding needs of a language model."""

    def embed(self, token_B: Tensor) -> Tensor:
        """Embeddings of one token per row: token_B1D."""

    def step(self, inputs_BTD: Tensor, cache: Any = None) -> tuple[Tensor, Any]:
        """Read `inputs_BTD` after what `cache` holds: next_BV logits of the last one, cache."""

    def check_room(self, tokens: int) -> None:
        """Raise ModelError unless a sequence of so many tokens has positions."""


@torch.inference_mode()
def greedy(
    language: TokenModel, prefix_BPD: Tensor, max_tokens: int, stop_ids: tuple[int, ...]
) -> list[Generated]:
    """Write the likeliest token after token until every row has met one of `stop_ids`.

    All prefixes have one length, so no row is padded and none sees another: a row's tokens do
    not depend on its neighbours. Among equally likely tokens the lowest id wins.
    """
    language.check_room(prefix_BPD.shape[1] + max_tokens)
    rows = prefix_BPD.shape[0]
    stops = torch.tensor(stop_ids, dtype=torch.long, device=prefix_BPD.device)
    running_B = torch.ones(rows, dtype=torch.bool, device=prefix_BPD.device)
    logprob_B = torch.zeros(rows, dtype=torch.float64, device=prefix_BPD.device)
    length_B = torch.zeros(rows, dtype=torch.long, device=prefix_BPD.device)
    columns: list[Tensor] = []
    inputs_BTD, cache = prefix_BPD, None
    while rows and len(columns) < max_tokens and bool(running_B.any()):
        next_BV, cache = language.step(inputs_BTD, cache)
        token_B = next_BV.argmax(dim=-1)
        chosen_B = next_BV.float().log_softmax(dim=-1).gather(-1, token_B[:, None])[:, 0]
        logprob_B += chosen_B.double() * running_B
        running_B = running_B & ~torch.isin(token_B, stops)
        length_B += running_B
        columns.append(token_B)
        inputs_BTD = language.embed(token_B)
    return _cut(columns, length_B.tolist(), logprob_B.tolist())


def _cut(columns: list[Tensor], lengths: list[int], logprobs: list[float]) -> list[Generated]:
    if not columns:
        return []
    token_rows = torch.stack(columns, dim=1).tolist()
    rows = zip(token_rows, lengths, logprobs, strict=True)
    return [Generated(tuple(tokens[:n]), logprob) for tokens, n, logprob in rows]
