"""Where language models lie and what their files are, without torch."""

from pathlib import Path

from captioner.digests import files_digest, text_digest
from captioner.nano import CAPTIONER


def local_language(name: str) -> Path | None:
    """Where a packaged or local language model lies; None for an id of the hub."""
    if name == "nano":
        return CAPTIONER
    folder = Path(name)
    return folder if (folder / "config.json").is_file() else None


def language_digest(name: str) -> str:
    """sha256 (hex) of a local language model's files; for the hub's, of its id."""
    folder = local_language(name)
    if folder is None:
        return text_digest(f"language {name}")
    files = [path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".txt")]
    return files_digest(folder, sorted(path.relative_to(folder).as_posix() for path in files))
