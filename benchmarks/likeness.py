"""How alike the tensors are that two sides made of the same pictures.

Shapes:  N pictures   C embedding
"""

from typing import Any

import torch
from torch.nn import functional

LEAST = {"float32": 0.999, "bfloat16": 0.99, "float16": 0.99}
"""Cosines that right embeddings have with the peer's, by the coarser of both precisions."""


def least_cosine(ours_NC: torch.Tensor, theirs_NC: torch.Tensor) -> float:
    """The least cosine of a picture's two rows.

    Random towers take all pictures for alike, so the mean of all of theirs is taken off first.
    """
    mean_C = theirs_NC.mean(dim=0)
    return float(functional.cosine_similarity(ours_NC - mean_C, theirs_NC - mean_C).min())


def check_alike(name: str, ours: dict[str, Any], theirs: dict[str, Any], dtype: str) -> float:
    """`least_cosine` of what sides saved: `keys` of pictures, and `image_NC` of length 1.

    Raises ValueError where they are of other pictures, or less alike than `dtype` leaves them.
    """
    row_of = {key: row for row, key in enumerate(theirs["keys"])}
    if len(row_of) != len(theirs["keys"]) or sorted(ours["keys"]) != sorted(row_of):
        raise ValueError(f"ours and {name} embedded other pictures than each other")
    rows = [row_of[key] for key in ours["keys"]]
    least = least_cosine(ours["image_NC"], theirs["image_NC"][rows])
    if not least >= LEAST[dtype]:
        raise ValueError(
            f"a cosine between our embedding and {name}'s is {least:.4f}, and right ones have "
            f"{LEAST[dtype]:g} in {dtype}: one of the two computes something else"
        )
    return least
