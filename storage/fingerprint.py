"""One hash for all that decides an output's content: equal facts, equal fingerprint.

Paths, clocks, device names and worker counts are never among the facts.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

CHUNK = 1 << 20


def canonical(facts: Mapping[str, Any]) -> bytes:
    """`facts` as JSON bytes that do not depend on order or white space; NaN is a ValueError."""
    text = json.dumps(
        facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def fingerprint(facts: Mapping[str, Any]) -> str:
    """64 hex digits; the first 8 name folders."""
    return hashlib.sha256(canonical(facts)).hexdigest()


def sha256_stream(file: IO[bytes]) -> str:
    """The hash of what is left to read in `file`."""
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def sha256_file(path: Path) -> str:
    """The hash of a local file's bytes."""
    with path.open("rb") as file:
        return sha256_stream(file)
