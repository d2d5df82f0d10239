"""The folder of an export: what it was asked for, which of its parts are done, and its files.

A part is done once its mark stands, which is written last; an export that was interrupted goes on
with the parts that have none. `.nightcap/` is hidden, so that no loader takes it for data.
"""

import json
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.commit import create, replace
from storage.errors import ConfigurationError
from storage.fingerprint import fingerprint
from storage.urls import READERS, folders, is_local, join, listing, read_bytes, redact

HOME = ".nightcap"
REQUEST = "export.json"
FORMAT = 1


@dataclass(slots=True)
class ExportPlace:
    """An opened folder; use it as a context, at the end of which every file is there."""

    url: str
    done: set[str]
    """Names of the parts that are done."""
    _pool: ThreadPoolExecutor | None = None
    _waiting: deque[Future[None]] = field(default_factory=deque)

    def __enter__(self) -> "ExportPlace":
        self._pool = None if is_local(self.url) else ThreadPoolExecutor(READERS)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def put(self, name: str, data: bytes | Path) -> None:
        """Write a file; into an object store some of them at a time."""
        if self._pool is None or isinstance(data, Path):
            replace(join(self.url, name), data)
            return
        self._waiting.append(self._pool.submit(replace, join(self.url, name), data))
        if len(self._waiting) > 2 * READERS:
            self._waiting.popleft().result()

    def mark(self, part: str) -> None:
        """Say that a part is done, once all its files are there."""
        self.flush()
        replace(join(self.url, HOME, "done", f"{part}.json"), b"{}\n")
        self.done.add(part)

    def flush(self) -> None:
        """Wait for every file."""
        while self._waiting:
            self._waiting.popleft().result()


def open_place(url: str, request: dict[str, Any]) -> ExportPlace:
    """The folder at `url`, new or begun by an equal request; else ConfigurationError."""
    body = {"format": FORMAT, "request": request, "fingerprint": fingerprint(request)}
    data = f"{json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False)}\n".encode()
    standing = _standing(url)
    if standing is None:
        _check_empty(url)
        create(join(url, HOME, REQUEST), data)
        standing = _standing(url) or {}
    if standing.get("fingerprint") != body["fingerprint"]:
        raise ConfigurationError(
            f"{redact(url)!r} holds another export ({_difference(standing, request)}): "
            "give an empty or new folder"
        )
    marks = listing(join(url, HOME, "done"))
    return ExportPlace(url, {name.removesuffix(".json") for name in marks})


def _standing(url: str) -> dict[str, Any] | None:
    try:
        body = json.loads(read_bytes(join(url, HOME, REQUEST)))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _check_empty(url: str) -> None:
    there = [name for name in [*listing(url), *folders(url)] if not name.startswith(".")]
    if there:
        raise ConfigurationError(
            f"{redact(url)!r} holds something else ({min(there)!r}): give an empty or new folder"
        )


def _difference(standing: dict[str, Any], request: dict[str, Any]) -> str:
    """What was asked for then, in a few words."""
    before = standing.get("request")
    if not isinstance(before, dict):
        return "its record cannot be read"
    names = sorted(name for name in {*before, *request} if before.get(name) != request.get(name))
    if names == ["state"]:
        return "the run has changed since"
    return ", ".join(f"{name} {str(before.get(name))[:60]!r}" for name in names if name != "state")
