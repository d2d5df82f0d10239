"""How well a caption fits its picture: the cosine of their embeddings in the encoder's space.

Shapes:  B batch   C embedding   N different texts
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
    row_of, all_NC = encoded(encoder, texts, batch_size)
    for start in range(0, len(texts), batch_size):
        text_BC = all_NC[[row_of[text] for text in texts[start : start + batch_size]]]
        projected_BC = encoder.project(image_BC[start : start + batch_size])
        images_BC = functional.normalize(projected_BC, dim=-1)
        cosine_B = torch.einsum("bc,bc->b", text_BC, images_BC.to(text_BC.device))
        scores.extend(cosine_B.clamp(-1.0, 1.0).tolist())
    return scores


def encoded(
    encoder: Encoder, texts: Sequence[str], batch_size: int
) -> tuple[dict[str, int], Tensor]:
    """Each different text's row, and the embeddings of all rows: one for each text, once.

    Texts of like length go together, because a batch costs what its longest one needs.
    """
    different = sorted(set(texts), key=lambda text: (len(text), text))
    starts = range(0, len(different), batch_size)
    parts = [encoder.encode_texts(different[start : start + batch_size]) for start in starts]
    all_NC = torch.cat(parts) if parts else torch.empty(0, encoder.dim)
    return {text: row for row, text in enumerate(different)}, all_NC
