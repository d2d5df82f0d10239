"""An encoder and a captioner without weights: captions that tell a picture's size.

They fill the same Protocols as the real ones, so a whole pipeline can be rehearsed with them.
Shapes:  B batch   C embedding
"""

import re
from collections.abc import Callable, Sequence

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional

from captioner.captions import Caption, unheard
from captioner.decoding import Decoding
from captioner.errors import ModelError
from captioner.presets import SIZE_CONFIG

_DIM = SIZE_CONFIG.encoder.dim  # width and height in base 256 (exact in float16), a constant


class SizeEncoder:
    """Embeds a picture as its width and height, and a text as the first two numbers in it."""

    name = "size"
    dim = _DIM
    feature = "projected"
    normalized = False
    revision = ""
    image_size = 1 << 16  # larger than any picture: no decoder may scale down for this encoder

    def preprocess(self, rgb: Image) -> Tensor:
        """The size of the picture in place of its pixels, in the shape (5, 1, 1)."""
        return _embed(rgb.width, rgb.height)[:, None, None]

    def encode_images(self, pixels_BCHW: Tensor) -> Tensor:
        """The sizes as embeddings image_BC, not of length 1."""
        return pixels_BCHW[:, :, 0, 0].float().cpu()

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings text_BC of length 1; a text without two numbers counts as a 1 by 1 picture."""
        numbers = [[int(number) for number in re.findall(r"\d{1,5}", text)] for text in texts]
        sizes = [found[:2] if len(found) >= 2 else [1, 1] for found in numbers]
        rows = [_embed(width, height) for width, height in sizes]
        return functional.normalize(torch.stack(rows), dim=-1) if rows else torch.zeros(0, _DIM)

    def project(self, image_BC: Tensor) -> Tensor:
        """The embeddings as they are: pictures and texts share one space."""
        return image_BC.float()


class SizeCaptioner:
    """Captions an embedding of `SizeEncoder` with the size it holds."""

    encoder_spec = SIZE_CONFIG.encoder
    decoding: Decoding = SIZE_CONFIG.decoding

    def candidates(
        self,
        image_BC: Tensor,
        decoding: Decoding,
        ids: Sequence[str] | None = None,
        progress: Callable[[int], None] = unheard,
    ) -> list[list[Caption]]:
        """One sentence a row; the two tokens are width and height, certain (logprob 0)."""
        del decoding, ids
        if image_BC.ndim != 2 or image_BC.shape[1] != _DIM:
            raise ModelError(f"The model 'size' reads embeddings of width {_DIM}.")
        progress(len(image_BC))
        return [[_caption(row)] for row in image_BC.float().tolist()]


def _embed(width: int, height: int) -> Tensor:
    return torch.tensor([width // 256, width % 256, height // 256, height % 256, 1.0])


def _caption(row: list[float]) -> Caption:
    width, height = round(row[0] * 256 + row[1]), round(row[2] * 256 + row[3])
    return Caption(f"A picture of {width} by {height} pixels.", (width, height), 0.0)
