"""Pictures with a photograph's statistics, made from a seed: what decoding is measured on.

Smooth shapes of falling amplitude, as in natural images, with grain on top; quality 90 and 4:2:0,
as cameras and web collections have it. Sizes of the files and decoding times come out alike.
"""

import io

import numpy as np
from PIL import Image

_OCTAVES = 8
_FALL = 0.7  # amplitude against frequency: natural images have about 1, but flatter corners too
_DEVIATION, _MEAN, _GRAIN = 55, 120, 4  # of 8-bit levels


def photograph(width: int, height: int, seed: int) -> bytes:
    """One JPEG, the same for the same seed."""
    drawn = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), dtype=np.float32)
    for octave in range(1, _OCTAVES + 1):
        cells = 2**octave
        for channel in range(3):
            coarse = Image.fromarray(drawn.normal(size=(cells, cells)).astype(np.float32))
            smooth = coarse.resize((width, height), Image.Resampling.BICUBIC)
            total[:, :, channel] += np.asarray(smooth) / cells**_FALL
    total = (total - total.mean()) / total.std() * _DEVIATION + _MEAN
    total += drawn.normal(size=(height, width, 1)).astype(np.float32) * _GRAIN
    data = io.BytesIO()
    picture = Image.fromarray(total.clip(0, 255).astype(np.uint8))
    picture.save(data, "JPEG", quality=90, subsampling="4:2:0")
    return data.getvalue()
