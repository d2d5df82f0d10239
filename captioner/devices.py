"""Where and in which precision a run computes: resolved once, recorded, never chosen again.

Torch is imported only where a choice depends on hardware that may be there.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.errors import ModelError

if TYPE_CHECKING:
    import torch

DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16")
_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, ROCm, Windows' Linux


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """Everything about the computing that can change an output's bits."""

    device: str
    """Kind of device: cpu, cuda or mps; never a device's own name."""
    dtype: str
    """Precision of the weights: float32, bfloat16 or float16."""
    batch_size: int
    """Pictures computed together; another size may change the last bits."""
    threads: int
    """Threads of one worker on a CPU; another number may change the last bits."""

    def __post_init__(self) -> None:
        _check("device", self.device, DEVICES)
        _check("dtype", self.dtype, DTYPES)
        for name in ("batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} must be at least 1, got {getattr(self, name)}.")


def resolve_numerics(
    device: str = "auto", dtype: str = "auto", batch_size: int | None = None, lanes: int = 1
) -> Numerics:
    """Choose what the caller left open, for `lanes` workers that share this machine.

    Raises ModelError for a device that is not there or a dtype that is not known.
    """
    kind = resolve_device(device)
    threads = max(1, usable_cores() // max(1, lanes))
    return Numerics(
        device=kind,
        dtype=resolve_dtype(dtype, kind),
        batch_size=batch_size if batch_size is not None else (64 if kind == "cpu" else 256),
        threads=threads,
    )


def resolve_device(device: str) -> str:
    """`auto` is CUDA where it works, else MPS, else the CPU; raises ModelError if not there."""
    _check("device", device, ("auto", *DEVICES))
    if device == "cpu" or (device == "auto" and not _may_have_accelerator()):
        return "cpu"
    import torch  # noqa: PLC0415 - slow to import, and needed only to ask for hardware

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next((kind for kind, works in there.items() if works), "cpu")
    if not there[device]:
        raise ModelError(f"The device {device!r} is not there; use auto or cpu.")
    return device


def resolve_dtype(dtype: str, device: str) -> str:
    """`auto` is float32, on CUDA bfloat16 from compute capability 8 on and float16 before."""
    _check("dtype", dtype, ("auto", *DTYPES))
    if dtype != "auto":
        return dtype
    if device != "cuda":
        return "float32"
    import torch  # noqa: PLC0415 - only to ask the card

    return "bfloat16" if torch.cuda.get_device_capability()[0] >= 8 else "float16"


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_threads(threads: int) -> None:
    """Set the threads torch computes with in this process."""
    import torch  # noqa: PLC0415 - slow to import

    torch.set_num_threads(threads)


def torch_dtype(dtype: str) -> "torch.dtype":
    """The torch type of a resolved dtype name."""
    import torch  # noqa: PLC0415 - slow to import

    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]


def _may_have_accelerator() -> bool:
    if sys.platform != "linux":
        return True
    return any(Path(node).exists() for node in _ACCELERATORS)


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ModelError(f"{name} {value!r} is not known; use one of: {', '.join(known)}.")
