"""The only place that writes under a root: a file is seen whole or not at all.

An object store shows a key only when its upload completes. A local file is written beside its
target, flushed, then renamed or linked, because a rename across file systems is a copy. Nothing is
streamed to its final name: leaving a `with open` block on an exception would publish the half.
"""

import errno
import os
import re
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from storage.errors import ConfigurationError
from storage.urls import FULL, filesystem, redact, translated

PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial")
"""Names of what a killed writer leaves behind on local disk: nobody's, fit to be removed."""

_memory = threading.Lock()  # memory:// looks, then stores: two threads could both win
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def replace(url: str, data: bytes | Path) -> None:
    """Publish `data` (bytes, or a local file) at `url`, replacing what was there."""
    fs, path = filesystem(url)
    with _writing(url, data):
        if isinstance(fs, LocalFileSystem):
            _publish(Path(path), data, lambda partial, target: partial.replace(target))
        elif isinstance(fs, MemoryFileSystem):
            fs.pipe_file(path, data if isinstance(data, bytes) else data.read_bytes())
        elif isinstance(data, bytes):
            fs.pipe_file(path, data)
        else:
            fs.put_file(str(data), path)


def create(url: str, data: bytes) -> bool:
    """Publish `data` at `url` unless something is there; whether this call did it.

    False may also mean that our own reply was lost: read back before judging.
    """
    fs, path = filesystem(url)
    with _writing(url, data):
        try:
            if isinstance(fs, LocalFileSystem):
                _publish(Path(path), data, _link)
            else:
                _put_new(fs, path, data)
        except FileExistsError:
            return False
    return True


def remove(url: str) -> None:
    """Take the file at `url` away; one that is gone already is no error."""
    fs, path = filesystem(url)
    with translated(url, "remove"):
        try:
            fs.rm_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return


@contextmanager
def scratch() -> Iterator[Path]:
    """A local folder for half-made output, gone afterwards whatever happens."""
    with tempfile.TemporaryDirectory(prefix="nightcap-") as folder:
        try:
            yield Path(folder)
        except OSError as error:
            if error.errno not in FULL:
                raise
            free = shutil.disk_usage(folder).free
            raise ConfigurationError(
                f"no space left for half-made output in {folder!r} ({free} bytes free): "
                "free some, or set TMPDIR to a roomier disk"
            ) from error


@contextmanager
def _writing(url: str, data: bytes | Path) -> Iterator[None]:
    """Say what stands in the way where `data` cannot be put."""
    with translated(url, "write", _size(data)):
        try:
            yield
        except (FileExistsError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            reason = "no such bucket, or a file where a folder should be, or the reverse"
            raise ConfigurationError(f"cannot write {redact(url)!r}: {reason}") from error


def _size(data: bytes | Path) -> int:
    if isinstance(data, bytes):
        return len(data)
    return data.stat().st_size if data.exists() else 0


def _put_new(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    """FileExistsError if `path` is taken, also where the server does not say which condition."""
    if isinstance(fs, MemoryFileSystem):
        with _memory:
            fs.pipe_file(path, data, mode="create")
        return
    try:
        fs.pipe_file(path, data, mode="create")
    except OSError as error:
        reply = getattr(error.__cause__, "response", None) or {}
        if (
            reply.get("ResponseMetadata", {}).get("HTTPStatusCode")
            != HTTPStatus.PRECONDITION_FAILED
        ):
            raise
        raise FileExistsError(path) from error


def _publish(target: Path, data: bytes | Path, place: Callable[[Path, Path], object]) -> None:
    _make_folder(target.parent)
    partial = target.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        _write(partial, data)
        place(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _write(partial: Path, data: bytes | Path) -> None:
    with partial.open("xb") as file:
        if isinstance(data, bytes):
            file.write(data)
        else:
            with data.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())


def _link(partial: Path, target: Path) -> None:
    """Give `partial` its final name unless taken; a rename would let the last writer win."""
    try:
        os.link(partial, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # exFAT and some network mounts know no links. A kill in here leaves a torn file, which
        # its reader finds out by the digest inside and replaces.
        _write(target, partial)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(folder) from error  # never to be read as "the file is there"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
