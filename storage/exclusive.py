"""Asks a store whether it refuses a name that is taken: what several writers at once rely on."""

import uuid
from functools import cache

from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from storage.commit import create, remove
from storage.errors import ConfigurationError
from storage.urls import filesystem, join, redact


@cache
def check_exclusive(url: str) -> None:
    """Raise ConfigurationError unless, of two writers of one name below `url`, the second fails.

    A server that does not know `If-None-Match` ignores it, and its last writer wins unnoticed.
    Three small requests, once a process and root; a disk and memory are not asked.
    """
    if isinstance(filesystem(url)[0], LocalFileSystem | MemoryFileSystem):
        return
    probe = join(url, f".{uuid.uuid4().hex}.partial")  # a name that `nightcap gc` knows
    try:
        create(probe, b"first")
        deaf = create(probe, b"second")
    finally:
        remove(probe)
    if deaf:
        raise ConfigurationError(
            f"the store of {redact(url)!r} lets a second writer overwrite the first (it ignores "
            "If-None-Match): use one writer at a time, --lanes 1 --engine local"
        )
