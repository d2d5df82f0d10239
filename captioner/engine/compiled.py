"""Numba's kernels, where they can be used: the extra `fast`, a CPU, float32 or bfloat16."""

from functools import cache
from importlib import import_module
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

_DTYPES = (torch.float32, torch.bfloat16)


def kernels_for(like: Tensor) -> ModuleType | None:
    """`captioner.engine.kernels` if it computes with tensors like this one, else None.

    As many threads as torch has will run them.
    """
    if like.device.type != "cpu" or like.dtype not in _DTYPES:
        return None
    kernels = _kernels()
    if kernels is not None:
        kernels.use_threads(torch.get_num_threads())
    return kernels


def bits(x: Tensor) -> np.ndarray:
    """The same memory as an array; bfloat16, which numpy does not know, as uint16."""
    x = x.contiguous()
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


@cache
def _kernels() -> ModuleType | None:
    """Compiled when first called, and kept on disk.

    None without Numba, without an OpenMP library for it (its other pools of threads are not safe
    or are another dependency), and where it finds no folder for what it compiled.
    """
    try:
        from numba import config  # noqa: PLC0415 - an extra

        import_module("numba.np.ufunc.omppool")
    except ImportError:
        return None
    if config.DISABLE_JIT:
        return None
    if config.THREADING_LAYER == "default":
        config.THREADING_LAYER = "omp"
    try:
        from captioner.engine import kernels  # noqa: PLC0415
    except RuntimeError:
        return None
    return kernels
