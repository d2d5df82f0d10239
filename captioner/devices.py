"""Where and in which precision a run computes: resolved once, recorded, never chosen again.

Torch is imported only where a choice depends on hardware that may be there.
"""

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.errors import ModelError

if TYPE_CHECKING:
    import torch

DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16", "int8")
LEAST_WIDTH = 256
"""Narrower models gain little by half precision: the products are not what takes their time."""
_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, ROCm, Windows' Linux


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """Everything about the computing that can change an output's bits."""

    device: str
    """Kind of device: cpu, cuda or mps; never a device's own name."""
    dtype: str
    """Precision of the weights: float32, bfloat16, float16, or int8 (the vocabulary and most
    layers; all else is then as bfloat16 or float32)."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is to be computed, as far as it decides how."""

    width: int = 0
    """Of a layer of the network; 0 where nobody knows."""
    batch_size: int = 64
    """What a CPU should compute at once."""


def resolve_numerics(
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int | None = None,
    lanes: int = 1,
    work: Workload = Workload(),
) -> Numerics:
    """Choose what the caller left open, for `lanes` workers that share this machine.

    Raises ModelError for a device that is not there or a dtype that is not known.
    """
    kind = resolve_device(device)
    threads = max(1, usable_cores() // max(1, lanes))
    usual = work.batch_size if kind == "cpu" else max(256, work.batch_size)
    return Numerics(
        device=kind,
        dtype=resolve_dtype(dtype, kind, work.width),
        batch_size=usual if batch_size is None else batch_size,
        threads=threads,
    )


def resolve_device(device: str) -> str:
    """`auto` is CUDA where it works, else the CPU; raises ModelError if not there.

    MPS has to be asked for: nothing was run on it, and captions cannot be (`load_model`).
    """
    _check("device", device, ("auto", *DEVICES))
    if device == "cpu" or (device == "auto" and not _may_have_accelerator()):
        return "cpu"
    import torch  # noqa: PLC0415 - slow to import, and needed only to ask for hardware

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return "cuda" if there["cuda"] else "cpu"
    if not there[device]:
        raise ModelError(f"The device {device!r} is not there; use auto or cpu.")
    return device


def resolve_dtype(dtype: str, device: str, width: int = 0) -> str:
    """What `auto` means on a device, for a network of that width.

    On a CPU it is bfloat16 where the CPU multiplies that faster and the network is wide enough to
    gain, else float32; on CUDA bfloat16 from compute capability 8 on and float16 before.
    """
    _check("dtype", dtype, ("auto", *DTYPES))
    if dtype != "auto":
        return dtype
    if device == "cpu":
        return "bfloat16" if width >= LEAST_WIDTH and multiplies_bfloat16() else "float32"
    if device != "cuda":
        return "float32"
    import torch  # noqa: PLC0415 - only to ask the card

    return "bfloat16" if torch.cuda.get_device_capability()[0] >= 8 else "float16"


def multiplies_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32: AMX, or AMD's AVX512-BF16.

    Intel's AVX512-BF16 alone, as a virtual machine shows it that hides AMX, is the slower way:
    170 against 330 GFLOP/s measured on two cores of a Xeon.
    """
    import torch  # noqa: PLC0415 - only to ask the processor

    matrices, vectors = (
        getattr(torch.cpu, name, bool)
        for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    )
    return bool(matrices() or (vectors() and _by_amd()))


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
    """The torch type of a resolved dtype name; of int8 that of all that is not in 8 bits."""
    import torch  # noqa: PLC0415 - slow to import

    if dtype == "int8":
        return torch.bfloat16 if multiplies_bfloat16() else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]


def _by_amd() -> bool:
    told = Path("/proc/cpuinfo")
    said = told.read_text(encoding="utf-8") if told.exists() else platform.processor()
    return "AuthenticAMD" in said


def _may_have_accelerator() -> bool:
    if sys.platform != "linux":
        return True
    return any(Path(node).exists() for node in _ACCELERATORS)


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ModelError(f"{name} {value!r} is not known; use one of: {', '.join(known)}.")
