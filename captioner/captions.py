"""What a captioner gives back, and the seam that every captioner fills.

Shapes:  B batch   C image embedding
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from captioner.configs import EncoderSpec
from captioner.decoding import Decoding

if TYPE_CHECKING:
    from torch import Tensor


def unheard(images: int) -> None:
    """Hear of progress without a word."""
    del images


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption of one picture."""

    text: str
    token_ids: tuple[int, ...]
    """The generated tokens without the stop token."""
    logprob: float
    """Sum of log-probabilities (nats) of the generated tokens, the stop token included."""
    seed: int | None = None
    """What its tokens were drawn from; None where nothing was drawn."""
    stopped: bool = True
    """Whether a stop token or string ended it; False where `max_tokens` cut it."""

    @property
    def n_tokens(self) -> int:
        """How many tokens the text took, the stop token excluded."""
        return len(self.token_ids)


@runtime_checkable
class Captioner(Protocol):
    """Anything that turns image embeddings into captions: models, and the fake of `fakes`."""

    @property
    def encoder_spec(self) -> EncoderSpec:
        """Which embeddings this captioner reads; anything else must be refused."""

    @property
    def decoding(self) -> Decoding:
        """How captions are written when the caller does not say."""

    def candidates(
        self,
        image_BC: "Tensor",
        decoding: Decoding,
        ids: Sequence[str] | None = None,
        progress: Callable[[int], None] = unheard,
    ) -> list[list[Caption]]:
        """`decoding.candidates` captions for each row of `image_BC`, in order.

        Draws depend on `ids`, by default a hash of each embedding, and not on the batch. Give as
        many rows as there are: no more are computed together than the captioner can hold.
        `progress` is told how many more rows are done.
        """
