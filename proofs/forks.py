"""Work in a process that is a copy of this one: what is imported here costs it nothing."""

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended."""

    signal: int
    """0 unless it was killed."""
    error: str
    """Kind and sentence of what it raised, empty if it returned."""


class Fork:
    """`work` begun in a process of its own."""

    def __init__(self, work: Callable[[], object]) -> None:
        sys.stdout.flush()
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            _live(work, writing)
        os.close(writing)
        self._reading = reading

    def wait(self) -> Ending:
        """How it ended."""
        with os.fdopen(self._reading, "rb") as file:
            told = file.read().decode()
        _, status = os.waitpid(self.pid, 0)
        killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return Ending(killed, told)


def _live(work: Callable[[], object], writing: int) -> None:
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:  # noqa: BLE001 - told to whoever waits
        text = "".join(traceback.format_exception_only(error)).strip()
        os.write(writing, text.encode()[:4000])
    finally:
        os._exit(code)
