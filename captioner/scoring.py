"""How well a caption fits its picture: the cosine of their embeddings in the encoder's space.

Shapes:  B batch   C embedding
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from captioner.encoders import Encoder
from captioner.errors import ModelError


def clip_similarities(
    encoder: Encoder, texts: Sequence[str], image_BC: Tensor, *, batch_size: int = 64
) -> list[float]:
    """The raw cosine (-1 to 1, float32) of text i and image i, for every i.

    CLIPScore (arXiv 2104.08718) is this cosine, cut at 0 and times 2.5. Raises ModelError if the
    numbers of texts and images or the widths differ.
    """
    if image_BC.ndim != 2 or image_BC.shape != (len(texts), encoder.dim):
        raise ModelError(
            f"{len(texts)} texts need image embeddings of shape ({len(texts)}, {encoder.dim}), "
            f"got {tuple(image_BC.shape)}."
        )
    scores: list[float] = []
    for start in range(0, len(texts), batch_size):
        text_BC = encoder.encode_texts(texts[start : start + batch_size])
        projected_BC = encoder.project(image_BC[start : start + batch_size])
        images_BC = functional.normalize(projected_BC, dim=-1)
        cosine_B = torch.einsum("bc,bc->b", text_BC, images_BC.to(text_BC.device))
        scores.extend(cosine_B.clamp(-1.0, 1.0).tolist())
    return scores
