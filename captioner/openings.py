"""What a language model reads before the caption, as the seam that decoding writes through.

Shapes:  B rows   P prefix tokens   D token embedding   V vocabulary
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.configs import Opening
from captioner.engine.gpt2 import Gpt2Slots
from captioner.engine.slots import Slots
from captioner.engine.transformers_slots import TransformersSlots
from captioner.errors import ModelError
from captioner.language import LanguageModel


def opened(language: LanguageModel, opening: Opening) -> "PlainOpening | ClipxgptOpening":
    """`language` behind the opening; raises ModelError where the two do not go together."""
    if opening.kind == "clipxgpt":
        return ClipxgptOpening(language, opening)
    return PlainOpening(language, opening)


class PlainOpening:
    """The prefix, after a beginning token if there is one, then token by token."""

    position_weight = 1
    """How many times the position embedding is added to a generated token."""

    def __init__(self, language: LanguageModel, opening: Opening) -> None:
        self.language = language
        self.bos_id = opening.bos_id
        vocabulary = language.vocabulary
        if self.bos_id is not None and not 0 <= self.bos_id < vocabulary:
            raise ModelError(f"bos_id {self.bos_id} is not among the model's {vocabulary} tokens.")

    def start(self, prefix_BPD: Tensor) -> Tensor:
        """What is read before the caption: start_BSD, S being P or P + 1."""
        if self.bos_id is None:
            return prefix_BPD
        token_B1 = torch.full((len(prefix_BPD), 1), self.bos_id, device=prefix_BPD.device)
        begin_B1D = self.language.embed(token_B1)
        return torch.cat([begin_B1D.to(prefix_BPD.dtype), prefix_BPD], dim=1)

    def readings(self, prefix_BPD: Tensor) -> list[Tensor]:
        """What is read in turn: the first token follows from the first start_BSD, later ones
        from the last."""
        return [self.start(prefix_BPD)]

    def slots(self, count: int, beams: int) -> Slots:
        """Empty slots for `count` captions of `beams` beams each."""
        weights = self.language.inference_weights()
        if weights is None:
            return TransformersSlots(self, beams)
        return Gpt2Slots(weights, self, count, beams)

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of generated tokens."""
        return self.language.text(token_ids)

    def check_room(self, tokens: int) -> None:
        """Raise ModelError unless prefix and caption of so many tokens in all have positions."""
        self.language.check_room(tokens + (self.bos_id is not None))


class ClipxgptOpening(PlainOpening):
    """The opening of jmisilo/clip-gpt-captioning, with positions added again and again.

    That code adds position embeddings by hand to what GPT-2 adds them to anyway, and it does so
    in place on the opening. In all, the first token is predicted from an opening that has them
    twice, every later one from an opening that has them three times and from generated tokens
    that have them twice; so the opening is read twice.
    """

    position_weight = 2

    def __init__(self, language: LanguageModel, opening: Opening) -> None:
        super().__init__(language, opening)
        if language.position_table is None:
            raise ModelError(
                "The clipxgpt opening needs a language model that adds position embeddings, "
                "as GPT-2 does."
            )
        self._position_TD = language.position_table

    def readings(self, prefix_BPD: Tensor) -> list[Tensor]:
        """What is read in turn: the first token follows from the first start_BSD, later ones
        from the last."""
        once_BSD = self.start(prefix_BPD)
        position_SD = self._position_TD[: once_BSD.shape[1]]
        twice_BSD = once_BSD + position_SD  # and GPT-2 adds them once more
        return [twice_BSD, twice_BSD + position_SD]
