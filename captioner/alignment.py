"""How well texts fit their own pictures, and how well they would fit the pictures of others.

A caption that describes its picture fits it better than another picture. Where it does not, the
captions ignore their pictures or stand in the wrong rows.

Shapes:  M texts   N pictures   B batch   C embedding
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from captioner.encoders import Encoder
from captioner.errors import ModelError
from captioner.scoring import encoded


@dataclass(frozen=True, slots=True)
class Cosines:
    """The raw cosines (-1 to 1, float32) of each text; NaN where the picture has no embedding."""

    own: list[float]
    """With the text's own picture."""
    other: list[float]
    """With the next picture; of the last one, the first."""


@torch.inference_mode()
def cosines(
    encoder: Encoder,
    texts: Sequence[str],
    image_NC: Tensor,
    owner_M: Sequence[int],
    *,
    batch_size: int = 64,
) -> Cosines:
    """How texts fit pictures: text m belongs to picture `owner_M[m]`.

    Each different text is encoded once. Raises ModelError if the numbers
    or the widths differ.
    """
    if image_NC.ndim != 2 or image_NC.shape[1] != encoder.dim or len(owner_M) != len(texts):
        raise ModelError(
            f"{len(texts)} texts need as many owners and image embeddings of width "
            f"{encoder.dim}, got {len(owner_M)} and {tuple(image_NC.shape)}."
        )
    found = Cosines([], [])
    row_of, all_NC = encoded(encoder, texts, batch_size)
    for start in range(0, len(texts), batch_size):
        text_BC = all_NC[[row_of[text] for text in texts[start : start + batch_size]]]
        row_B = torch.tensor(owner_M[start : start + batch_size])
        for cosine_M, at_B in ((found.own, row_B), (found.other, (row_B + 1) % len(image_NC))):
            image_BC = functional.normalize(encoder.project(image_NC[at_B]), dim=-1)
            cosine_B = torch.einsum("bc,bc->b", text_BC, image_BC.to(text_BC.device))
            cosine_M.extend(cosine_B.clamp(-1.0, 1.0).tolist())
    return found
