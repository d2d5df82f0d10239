"""From an upright RGB picture to the numbers an encoder reads: its own transform, several times
faster.

Pillow's bicubic resize costs more than decoding the JPEG; torch's resize of bytes gives the same
levels but for the last one, in a third of the time. A transform with steps that are not known
here is left as it is.

Shapes:  C channels   H height   W width
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, InterpolationMode, Normalize, Resize
from torchvision.transforms.v2 import functional

Transform = Callable[[Image], Tensor]

_SMOOTH = {InterpolationMode.BICUBIC, InterpolationMode.BILINEAR}
_PLAIN = {"MaybeConvertMode", "MaybeToTensor"}  # open_clip's: nothing to do for RGB


def quick(transform: Any) -> Transform:
    """The same as `transform`, an inference transform of open_clip, within a level in 255.

    `transform` itself where it is anything but a resize, a crop or none, and a normalisation.
    """
    steps = list(getattr(transform, "transforms", ()))
    crops = [step for step in steps if type(step) is CenterCrop]
    rest = steps[1 + len(crops) : -1]
    known = (
        len(steps) > 1
        and type(steps[0]) is Resize
        and steps[0].interpolation in _SMOOTH
        and steps[0].max_size is None
        and steps[1 : 1 + len(crops)] == crops
        and {type(step).__name__ for step in rest} == _PLAIN
        and type(steps[-1]) is Normalize
    )
    return _Quick(steps[0], crops, steps[-1]) if known else transform


class _Quick:
    """A resize of bytes, at most one crop, and the normalisation, on one thread."""

    def __init__(self, resize: Resize, crops: list[CenterCrop], normalize: Normalize) -> None:
        self._resize = resize
        self._crops = crops
        std_C11 = np.asarray(normalize.std, dtype=np.float32).reshape(-1, 1, 1)
        mean_C11 = np.asarray(normalize.mean, dtype=np.float32).reshape(-1, 1, 1)
        self._scale_C11: NDArray[np.float32] = (1 / (255 * std_C11)).astype(np.float32)
        self._shift_C11: NDArray[np.float32] = mean_C11 / std_C11

    def __call__(self, rgb: Image) -> Tensor:
        """float32 pixels_CHW."""
        level_CHW = torch.from_numpy(np.array(rgb.convert("RGB"))).permute(2, 0, 1)
        size = self._resize.size
        level_CHW = functional.resize(
            level_CHW,
            [size] if isinstance(size, int) else list(size),
            interpolation=self._resize.interpolation,
            antialias=True,
        )
        for crop in self._crops:
            level_CHW = functional.center_crop(level_CHW, list(crop.size))
        # numpy, because torch would share so little work among threads that compute for the encoder
        pixels_CHW = np.multiply(
            level_CHW.numpy(), self._scale_C11, dtype=np.float32, order="C", casting="unsafe"
        )
        pixels_CHW -= self._shift_C11
        return torch.from_numpy(pixels_CHW)
