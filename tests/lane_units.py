"""Units of work for tests of lanes: they return, fail, die, hang or tell their process."""

import os
import signal
import time
from pathlib import Path

from storage.errors import ShardError
from tasks.progress import tick


def whoami(delay: float = 0.0) -> int:
    time.sleep(delay)
    return os.getpid()


def fail(message: str) -> None:
    raise ShardError(message)


def die_once(mark: str) -> str:
    """End the process, unless it was tried before."""
    if not Path(mark).exists():
        Path(mark).touch()
        os._exit(137)
    return "alive"


def pick(start: int, stop: int, killers: tuple[int, ...], hangers: tuple[int, ...]) -> int:
    """Work on numbers of which some end the process and some never end."""
    for number in range(start, stop):
        if number in killers:
            os.kill(os.getpid(), signal.SIGKILL)
        if number in hangers:
            time.sleep(600)
    return stop - start


def hang() -> None:
    time.sleep(600)


def count(number: int) -> int:
    tick("counting", number)
    return number
