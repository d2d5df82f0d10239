"""The lock of a root: a small file that says which command writes there, so that a second yields.

It saves work and never decides what is right: receipts do. A holder that is dead on this machine
is taken over; one on another machine is nobody's to judge, so it takes `force`.
"""

import getpass
import json
import logging
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from storage.commit import create, remove
from storage.errors import ConfigurationError
from storage.layout import Root
from storage.urls import filesystem, is_local, join, read_bytes

FILE = ".lock.json"
"""Hidden, so that it is nobody's data."""
TRIES = 5
_log = logging.getLogger(__name__)


class RootLocked(ConfigurationError):
    """Another command writes under this root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lock; a clock may stand here, for nothing is derived from it."""

    command: str
    user: str
    host: str
    pid: int
    started: float
    """When the process began, by its own machine: pids are used again."""
    since: str
    """UTC."""
    token: str
    """Tells this taking from every other."""

    def to_bytes(self) -> bytes:
        """The file's content."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode()

    @property
    def is_dead(self) -> bool:
        """Whether it was on this machine and is gone; False for what cannot be told from here."""
        return self.host == socket.gethostname() and self.started != _started(self.pid)

    def __str__(self) -> str:
        return f"`nightcap {self.command}` of {self.user} on {self.host} (process {self.pid})"


@contextmanager
def held(root: Root, command: str, *, force: bool = False) -> Iterator[Holder]:
    """Hold the lock of `root` for the length of the block.

    Raises RootLocked if somebody else does; `force` takes it whoever holds it.
    """
    new = is_local(root.url) and not Path(filesystem(root.url)[1]).exists()
    ours = _holder(command)
    _take(root, ours, force=force)
    try:
        yield ours
    finally:
        if holder(root) == ours:
            remove(_url(root))
        if new:
            _forget(Path(filesystem(root.url)[1]))


def holder(root: Root) -> Holder | None:
    """Who holds the lock of `root`; None if it is free, or says nothing that can be read."""
    try:
        return Holder(**json.loads(read_bytes(_url(root))))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def _take(root: Root, ours: Holder, *, force: bool) -> None:
    for _ in range(TRIES):
        if create(_url(root), ours.to_bytes()):
            return
        there = holder(root)
        if there == ours:
            return  # created, and only the reply was lost
        if there and not (force or there.is_dead):
            raise RootLocked(
                f"{there} has been writing under this root since {there.since}: wait for it, or "
                "add --force if you know that it is dead"
            )
        _log.warning("taking over the lock of %s", there or "nobody that can be read")
        remove(_url(root))
    raise RootLocked("others keep taking the lock of this root: run again")


def _holder(command: str) -> Holder:
    pid = os.getpid()
    return Holder(
        command=command,
        user=_user(),
        host=socket.gethostname(),
        pid=pid,
        started=_started(pid),
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        token=uuid.uuid4().hex,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run a number that has no name
        return str(os.getuid())


def _started(pid: int) -> float:
    """When the process `pid` began; 0 if there is none, or one that only awaits its burial."""
    try:
        process = psutil.Process(pid)
        dead = process.status() == psutil.STATUS_ZOMBIE
        return 0.0 if dead else round(process.create_time(), 2)
    except psutil.Error:
        return 0.0


def _forget(folder: Path) -> None:
    """A command that failed before it made anything leaves no empty folder."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _url(root: Root) -> str:
    return join(root.url, FILE)
