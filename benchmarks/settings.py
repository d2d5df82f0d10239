"""How benchmarks are run, and the facts of the machine that go with every result."""

import os
import platform
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from captioner.devices import resolve_dtype, usable_cores

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nightcap-benchmarks"
"""Peers' environments and made inputs; outside the source tree, and may be deleted."""
_PACKAGES = ("torch", "numba", "transformers", "open_clip_torch", "webdataset", "pillow", "pyarrow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line said."""

    threads: int = field(default_factory=usable_cores)
    """Threads that every side computes with."""
    rounds: int = 5
    """Rounds, in each of which all sides work once."""
    quick: bool = False
    """Tiny sizes: shows that a benchmark works, its figures mean nothing."""
    scale: float = 1.0
    """Part of a benchmark's usual items in each round, for slower machines."""
    cache: Path = CACHE
    install: bool = True
    """Whether peers that need an environment of their own may be installed."""

    def items(self, usual: int, quick: int) -> int:
        """Items of one round."""
        return quick if self.quick else max(1, round(usual * self.scale))

    def scratch(self) -> tempfile.TemporaryDirectory[str]:
        """A folder for inputs and outputs of one benchmark."""
        self.cache.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=self.cache)


def fast_dtype() -> str:
    """The precision that a run chooses by itself for a network as wide as gpt2 on this machine."""
    return resolve_dtype("auto", "cpu", 768)


def facts(command: str, settings: Settings) -> dict[str, Any]:
    """Machine, versions and command, for the raw log."""
    found = [f"{name} {_version(name)}" for name in _PACKAGES]
    return {
        "command": command,
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {usable_cores()} cores, {settings.threads} threads",
        "versions": ", ".join([f"Python {platform.python_version()}", *found]),
        "rounds": settings.rounds,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _processor() -> str:
    """The processor's name, and what it knows beyond AVX2 that matters here."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    lines = info.read_text(encoding="utf-8").splitlines()
    named = dict(line.split(":", 1) for line in lines if ":" in line)
    said = {key.strip(): value.strip() for key, value in named.items()}
    wanted = ("avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")
    flags = [flag for flag in wanted if flag in said.get("flags", "").split()]
    return f"{said.get('model name', platform.machine())} ({' '.join(flags)})"
