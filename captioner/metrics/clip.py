"""CLIPScore and RefCLIPScore (Hessel et al. 2021, arXiv 2104.08718) from raw cosines.

The paper puts "A photo depicts" before every text; cosines here are of the captions as they are.
Shapes:  N captions   B batch   C embedding
"""

from collections.abc import Sequence

import numpy as np
import torch

from captioner.encoders import Encoder
from captioner.metrics.measure import Floats, Measure, mean_of

WEIGHT = 2.5


def clip_measures(cosine_N: Sequence[float], reference_N: Sequence[float]) -> dict[str, Measure]:
    """CLIPScore, and RefCLIPScore where `reference_N` is given (it may be empty).

    `cosine_N` is of caption and picture, `reference_N` of caption and its nearest reference.
    """
    score_N: Floats = WEIGHT * np.maximum(np.asarray(cosine_N, dtype=np.float64), 0.0)
    measures = {"CLIPScore": mean_of(score_N)}
    if len(reference_N):
        near_N = np.maximum(np.asarray(reference_N, dtype=np.float64), 0.0)
        both_N = score_N + near_N
        harmonic_N = 2 * score_N * near_N / np.where(both_N > 0, both_N, 1.0)
        measures["RefCLIPScore"] = mean_of(harmonic_N)
    return measures


@torch.inference_mode()
def nearest_references(
    encoder: Encoder,
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    batch_size: int = 64,
) -> list[float]:
    """The largest cosine of each caption with a reference of its own; texts are encoded once."""
    found: list[float] = []
    for start in range(0, len(captions), batch_size):
        part = references[start : start + batch_size]
        caption_BC = encoder.encode_texts(captions[start : start + batch_size])
        reference_MC = encoder.encode_texts([text for row in part for text in row])
        at = 0
        for caption_C, row in zip(caption_BC, part, strict=True):
            found.append(float((reference_MC[at : at + len(row)] @ caption_C).max()))
            at += len(row)
    return found
