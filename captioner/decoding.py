"""Strategies that turn a prefix into tokens: their settings here, their loops in `generation`.

A strategy is a small frozen value that can be written to JSON and read back, so that a run's
fingerprint can hold it; torch is imported only when one is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from captioner.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from captioner.engine.prefixes import Prefixes
    from captioner.generation import TokenModel


@dataclass(frozen=True, slots=True)
class Generated:
    """The tokens written for one prefix, and how likely the model found them."""

    token_ids: tuple[int, ...]
    """Without the stop token."""
    logprob: float
    """Sum over the generated tokens, the stop token included, of the unmodified distribution."""
    stop_id: int | None = None
    """The stop token that ended it; None where a stop string or `max_tokens` did."""
    seed: int | None = None
    """What the draws were made from; None where nothing was drawn."""


class Decoding(Protocol):
    """One way to write tokens after a prefix; a new one adds a class and a line in `DECODINGS`."""

    @property
    def max_tokens(self) -> int:
        """Tokens generated at most, the stop token included."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a caption and are no part of it."""

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Texts that end a caption and are no part of it."""

    @property
    def candidates(self) -> int:
        """Captions written for each image."""

    def generate(
        self, language: "TokenModel", prefixes: "Prefixes | Tensor", ids: Sequence[str]
    ) -> list[list[Generated]]:
        """Write `candidates` captions after each of `prefixes`, in order.

        `ids` tell the rows apart wherever they are computed: draws depend on them alone.
        """

    def to_json(self) -> dict[str, Any]:
        """Everything that decides the output, for configs and fingerprints."""


@dataclass(frozen=True, slots=True)
class _Limits:
    """What every strategy heeds."""

    max_tokens: int = 64
    """Tokens generated at most, the stop token included; raise it for long captions."""
    stop_ids: tuple[int, ...] = ()
    """Tokens that end a caption; without one every caption has `max_tokens` tokens."""
    stop_strings: tuple[str, ...] = ()
    """Texts that end a caption where no single token does; slower than `stop_ids`."""
    min_tokens: int = 0
    """Stop tokens are forbidden before so many others."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that were used less likely (arXiv 1909.05858, section 4.1)."""
    no_repeat_ngram: int = 0
    """No run of so many tokens comes twice in a caption; 0 allows all."""

    strategy: ClassVar[str]

    def __post_init__(self) -> None:
        _at_least("max_tokens", self.max_tokens, 1)
        _at_least("min_tokens", self.min_tokens, 0)
        _at_least("no_repeat_ngram", self.no_repeat_ngram, 0)
        if self.min_tokens >= self.max_tokens:
            raise ModelError(
                f"min_tokens must be below max_tokens, got {self.min_tokens} and {self.max_tokens}."
            )
        if not self.repetition_penalty > 0:
            raise ModelError(f"repetition_penalty must be above 0, got {self.repetition_penalty}.")
        if not all(self.stop_strings):
            raise ModelError("A stop string must not be empty.")
        object.__setattr__(self, "stop_ids", tuple(int(stop) for stop in self.stop_ids))
        object.__setattr__(self, "stop_strings", tuple(self.stop_strings))

    @property
    def candidates(self) -> int:
        """Captions written for each image."""
        return 1

    def to_json(self) -> dict[str, Any]:
        """What is not at its default, and always where a caption ends.

        A setting that a later version adds leaves the fingerprints of today's runs alone.
        """
        always = ("max_tokens", "stop_ids")
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name in always
            or field.default is MISSING
            or getattr(self, field.name) != field.default
        }
        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
        return {"strategy": self.strategy, **plain}


@dataclass(frozen=True, slots=True)
class Greedy(_Limits):
    """Always the likeliest next token."""

    strategy: ClassVar[str] = "greedy"

    def generate(
        self, language: "TokenModel", prefixes: "Prefixes | Tensor", ids: Sequence[str]
    ) -> list[list[Generated]]:
        """Write one caption after each of `prefixes`, in order."""
        from captioner.engine.prefixes import Prefixes  # noqa: PLC0415 - torch
        from captioner.lines import greedy  # noqa: PLC0415 - torch only when it is used

        del ids
        return greedy(language, Prefixes.of(prefixes), self)


@dataclass(frozen=True, slots=True)
class Beam(_Limits):
    """The likeliest of several captions that are written side by side."""

    beams: int = 5
    """Captions kept at every step. More find likelier captions and take as much more time."""
    n: int = 1
    """Captions given back for each image, best first; at most `beams`."""
    length_penalty: float = 1.0
    """Captions are ranked by log-probability / length ** this: 0 favours short ones."""
    mode: str = "default"
    """`default` ends, scores and ranks as transformers' beam search does, `clipcap` as ClipCap's
    predict.py: ranked by the mean at every step, ended ones compete with those still growing."""

    strategy: ClassVar[str] = "beam"

    def __post_init__(self) -> None:
        super(Beam, self).__post_init__()
        _at_least("beams", self.beams, 1)
        _at_least("n", self.n, 1)
        if self.n > self.beams:
            raise ModelError(f"n must be at most beams, got {self.n} of {self.beams}.")
        if self.mode not in ("default", "clipcap"):
            raise ModelError(f"mode must be default or clipcap, got {self.mode!r}.")
        if self.stop_strings:
            raise ModelError("Beam search ends captions at stop tokens alone, not at stop_strings.")
        if self.mode == "clipcap" and self.length_penalty != 1.0:
            raise ModelError("The clipcap mode ranks by the mean: leave length_penalty at 1.")

    @property
    def candidates(self) -> int:
        """Captions written for each image."""
        return self.n

    def generate(
        self, language: "TokenModel", prefixes: "Prefixes | Tensor", ids: Sequence[str]
    ) -> list[list[Generated]]:
        """Write the `n` best captions after each of `prefixes`, best first."""
        from captioner.beams import beam_search  # noqa: PLC0415 - torch
        from captioner.engine.prefixes import Prefixes  # noqa: PLC0415 - torch

        del ids
        return beam_search(language, Prefixes.of(prefixes), self)


@dataclass(frozen=True, slots=True)
class Sample(_Limits):
    """Tokens drawn by their probability, `n` captions for each image."""

    n: int = 1
    """Captions drawn for each image."""
    seed: int = 0
    """Another seed draws other captions; draws depend on it, the image and the sample alone."""
    temperature: float = 1.0
    """Below 1 prefers likely tokens, above 1 evens the chances out."""
    top_k: int = 0
    """Draw among the so many likeliest tokens; 0 among all."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that together reach this probability."""
    min_p: float = 0.0
    """Draw among tokens at least this likely, relative to the likeliest."""

    strategy: ClassVar[str] = "sample"

    def __post_init__(self) -> None:
        super(Sample, self).__post_init__()
        _at_least("n", self.n, 1)
        _at_least("seed", self.seed, 0)
        _at_least("top_k", self.top_k, 0)
        if not self.temperature > 0:
            raise ModelError(f"temperature must be above 0, got {self.temperature}; or use greedy.")
        if not 0 < self.top_p <= 1:
            raise ModelError(f"top_p must be above 0 and at most 1, got {self.top_p}.")
        if not 0 <= self.min_p < 1:
            raise ModelError(f"min_p must be from 0 to below 1, got {self.min_p}.")

    @property
    def candidates(self) -> int:
        """Captions written for each image."""
        return self.n

    def generate(
        self, language: "TokenModel", prefixes: "Prefixes | Tensor", ids: Sequence[str]
    ) -> list[list[Generated]]:
        """Write `n` captions after each of `prefixes`, in the order of their draws."""
        from captioner.engine.prefixes import Prefixes  # noqa: PLC0415 - torch
        from captioner.lines import sample  # noqa: PLC0415 - torch only when it is used

        return sample(language, Prefixes.of(prefixes), self, ids)


DECODINGS: dict[str, type[Greedy] | type[Beam] | type[Sample]] = {
    kind.strategy: kind for kind in (Greedy, Beam, Sample)
}


def decoding_from_json(settings: Mapping[str, Any]) -> Decoding:
    """The strategy that `to_json` described; raises ModelError for one that is not known."""
    values = dict(settings)
    strategy = values.pop("strategy", None)
    if strategy not in DECODINGS:
        known = ", ".join(sorted(DECODINGS))
        raise ModelError(f"The decoding strategy {strategy!r} is not known; use one of: {known}.")
    try:
        return DECODINGS[strategy](**values)
    except (TypeError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"The settings of decoding {strategy!r} are not valid: {error}."
        ) from error


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ModelError(f"{name} must be at least {least}, got {value}.")
