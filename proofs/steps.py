"""Stands before every step that a writer takes, on a disk or a store, and may spoil one of them.

A step is one call of the operating system below a folder, or of the S3 client, and its moment:
`before` it, `short` (a write of which half is done), or `after` it.
"""

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fsspec.implementations.memory import MemoryFileSystem

Act = Callable[[str, str], None]
"""Told the operation and the moment; may raise, or end the process."""
MUTATING = {"put_object", "delete_object", "delete_objects", "copy_object"} | {
    f"{verb}_multipart_upload" for verb in ("create", "complete", "abort")
}


@contextmanager
def _put(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def local_steps(folder: Path, act: Act) -> Iterator[None]:
    """Ask `act` around every call of this process that concerns a file below `folder`."""
    with ExitStack() as stack:
        for name in ("fsync", "link", "replace", "unlink", "mkdir", "scandir", "stat"):
            stepped = _around(name, getattr(os, name), str(folder), act)
            stack.enter_context(_put(os, name, stepped))
        stepped = _opening(str(folder), act)
        stack.enter_context(_put(io, "open", stepped))
        stack.enter_context(_put(builtins, "open", stepped))
        yield


def _concerned(subject: Any, below: str) -> bool:
    if isinstance(subject, int):
        subject = Path(f"/proc/self/fd/{subject}").readlink()
    return isinstance(subject, (str, os.PathLike)) and os.fspath(subject).startswith(below)


def _around(operation: str, call: Callable[..., Any], below: str, act: Act) -> Callable[..., Any]:
    def stepped(subject: Any = ".", *rest: Any, **options: Any) -> Any:
        if not _concerned(subject, below):
            return call(subject, *rest, **options)
        act(operation, "before")
        result = call(subject, *rest, **options)
        act(operation, "after")
        return result

    return stepped


def _opening(below: str, act: Act) -> Callable[..., Any]:
    opened = io.open

    def stepped(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if not _concerned(file, below):
            return opened(file, mode, *rest, **options)
        kind = "open" if "r" in mode else "create"
        act(kind, "before")
        found = opened(file, mode, *rest, **options)
        return found if kind == "open" else _Written(found, act)

    return stepped


class _Written:
    """A file being written, whose every write is a step."""

    def __init__(self, file: Any, act: Act) -> None:
        self._file = file
        self._act = act

    def write(self, data: bytes) -> int:
        self._act("write", "before")
        half = len(data) // 2
        self._file.write(data[:half])
        self._file.flush()
        self._act("write", "short")
        self._file.write(data[half:])
        self._act("write", "after")
        return len(data)

    def __enter__(self) -> "_Written":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def memory_steps(act: Act) -> Iterator[None]:
    """The same around every call of `memory://`, where a write is whole or not there."""

    def around(operation: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **options: Any) -> Any:
            act(operation, "before")
            result = call(*args, **options)
            act(operation, "after")
            return result

        return stepped

    with ExitStack() as stack:
        for name in ("pipe_file", "cat_file", "ls", "info", "rm_file", "_open"):
            call = getattr(MemoryFileSystem, name)
            stack.enter_context(_put(MemoryFileSystem, name, around(name, call)))
        yield


@contextmanager
def s3_steps(act: Act) -> Iterator[None]:
    """The same around every call of the S3 client that changes something."""
    from s3fs import S3FileSystem

    call = S3FileSystem._call_s3  # noqa: SLF001 - every request passes here

    async def stepped(fs: Any, method: str, *args: Any, **options: Any) -> Any:
        if method not in MUTATING:
            return await call(fs, method, *args, **options)
        act(method, "before")
        reply = await call(fs, method, *args, **options)
        act(method, "after")
        return reply

    with _put(S3FileSystem, "_call_s3", stepped):
        yield
