"""What this machine can do, and what is wrong with it, each with its mend."""

import os
import platform
import shutil
import socket
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import psutil
from rich.console import Console

from captioner.devices import resolve_numerics, usable_cores
from captioner.encoders import NANO_ENCODER, encoder_digest
from captioner.errors import ModelError
from captioner.presets import model_digest
from storage.urls import redact

EXTRAS = {
    "fast": "numba",
    "s3": "s3fs",
    "gcs": "gcsfs",
    "heif": "pillow_heif",
    "ray": "ray",
    "dask": "distributed",
}
LIBRARIES = ("torch", "open_clip_torch", "transformers", "prefect", "fastapi", "pyarrow", "pillow")
HUB_TIMEOUT = 3.0
"""Seconds to wait for the weights' hub."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact, with a mend if it is a trouble."""

    name: str
    value: str
    mend: str = ""


def examine() -> list[Finding]:
    """Everything that is worth knowing before a run; a finding with a mend is a trouble."""
    return [
        Finding("python", platform.python_version()),
        *(_library(name) for name in LIBRARIES),
        _cores(),
        _memory(),
        _scratch(),
        _numerics(),
        _embedded(),
        _extras(),
        _hub(),
        _prefect(),
    ]


def to_json(findings: list[Finding]) -> dict[str, Any]:
    """For `--json`."""
    return {
        "command": "doctor",
        "ok": not any(finding.mend for finding in findings),
        "findings": {finding.name: finding.value for finding in findings},
        "troubles": {finding.name: finding.mend for finding in findings if finding.mend},
    }


def show(findings: list[Finding]) -> None:
    """Print the findings, troubles marked."""
    console = Console(highlight=False)
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark = "!!" if finding.mend else "ok"
        console.print(f"{mark} {finding.name:<{width}}  {finding.value}", markup=False)
        if finding.mend:
            console.print(f"   {'':<{width}}  -> {finding.mend}", markup=False, soft_wrap=True)


def _library(name: str) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "missing", f"pip install {name}")
    if name == "fastapi" and tuple(map(int, found.split(".")[:2])) >= (0, 151):
        return Finding(name, found, "Prefect does not start with it: pip install 'fastapi<0.151'")
    return Finding(name, found)


def _cores() -> Finding:
    return Finding("cores", f"{usable_cores()} usable of {os.cpu_count()}")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    text = f"{memory.available / 2**30:.1f} GiB free of {memory.total / 2**30:.1f}"
    low = memory.available < 2 * 2**30
    return Finding("memory", text, "a lane needs about 1 GiB: close something" if low else "")


def _scratch() -> Finding:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free / 2**30
    mend = "a shard is built here first: set TMPDIR to a larger disk" if free < 5 else ""
    return Finding("scratch", f"{free:.1f} GiB free in {folder}", mend)


def _numerics() -> Finding:
    numerics = resolve_numerics()
    text = f"{numerics.device}, {numerics.dtype}, {numerics.threads} threads, "
    return Finding("compute", f"{text}batches of {numerics.batch_size}")


def _embedded() -> Finding:
    try:
        digests = f"encoder {encoder_digest('nano')[:8]}, model {model_digest('nano')[:8]}"
    except ModelError as error:
        return Finding("nano", f"not in {NANO_ENCODER.parent}", f"install nightcap again: {error}")
    return Finding("nano", digests)


def _extras() -> Finding:
    there = [extra for extra, module in EXTRAS.items() if find_spec(module)]
    missing = [extra for extra in EXTRAS if extra not in there]
    text = f"{', '.join(there) or 'none'}; not installed: {', '.join(missing) or 'none'}"
    return Finding("extras", text)


def _hub() -> Finding:
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE  # noqa: PLC0415 - slow

    if HF_HUB_OFFLINE:
        return Finding("hub", "offline by HF_HUB_OFFLINE: only weights at hand can be used")
    place = urlsplit(ENDPOINT)
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        socket.create_connection((place.hostname or "", port), HUB_TIMEOUT).close()
    except OSError:
        return Finding("hub", f"{ENDPOINT} does not answer: only weights at hand can be used")
    return Finding("hub", f"{ENDPOINT} answers")


def _prefect() -> Finding:
    url = redact(os.environ.get("PREFECT_API_URL", ""))
    return Finding("prefect", f"server {url}" if url else "no server set: each run starts its own")
