"""Strategies that turn a prefix into tokens: their settings here, their loops in `generation`.

A strategy is a small frozen value that can be written to JSON and read back, so that a run's
fingerprint can hold it; torch is imported only when one is used.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from captioner.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from captioner.generation import TokenModel


@dataclass(frozen=True, slots=True)
class Generated:
    """The tokens written for one prefix, and how likely the model found them."""

    token_ids: tuple[int, ...]
    logprob: float


class Decoding(Protocol):
    """One way to write tokens after a prefix; a new one adds a class and a line in `DECODINGS`."""

    @property
    def max_tokens(self) -> int:
        """Tokens generated at most, the stop token included."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a caption and are no part of it."""

    def generate(self, language: "TokenModel", prefix_BPD: "Tensor") -> list[Generated]:
        """Write one caption after each row of `prefix_BPD`, in order."""

    def to_json(self) -> dict[str, Any]:
        """Everything that decides the output, for configs and fingerprints."""


@dataclass(frozen=True, slots=True)
class Greedy:
    """Always the likeliest next token."""

    max_tokens: int = 64
    """Tokens generated at most, the stop token included; raise it for long captions."""
    stop_ids: tuple[int, ...] = ()
    """Tokens that end a caption; without one every caption has `max_tokens` tokens."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ModelError(f"max_tokens must be at least 1, got {self.max_tokens}.")
        object.__setattr__(self, "stop_ids", tuple(int(stop) for stop in self.stop_ids))

    def generate(self, language: "TokenModel", prefix_BPD: "Tensor") -> list[Generated]:
        """Write one caption after each row of `prefix_BPD`, in order."""
        from captioner.generation import greedy  # noqa: PLC0415 - torch only when it is used

        return greedy(language, prefix_BPD, self.max_tokens, self.stop_ids)

    def to_json(self) -> dict[str, Any]:
        """Everything that decides the output, for configs and fingerprints."""
        settings = asdict(self)
        return {"strategy": "greedy", **settings, "stop_ids": list(self.stop_ids)}


DECODINGS = {"greedy": Greedy}


def decoding_from_json(settings: Mapping[str, Any]) -> Decoding:
    """The strategy that `to_json` described; raises ModelError for one that is not known."""
    values = dict(settings)
    strategy = values.pop("strategy", None)
    if strategy not in DECODINGS:
        known = ", ".join(sorted(DECODINGS))
        raise ModelError(f"The decoding strategy {strategy!r} is not known; use one of: {known}.")
    try:
        return DECODINGS[strategy](**values)
    except TypeError as error:
        raise ModelError(
            f"The settings of decoding {strategy!r} are not valid: {error}."
        ) from error
