"""The `nightcap` command run as a user runs it, its memory watched.

Memory is that of the command with all processes it starts, the Prefect server among them, summed
as proportional set size, so that shared pages count once.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks.side import SideFailedError

NIGHTCAP = [sys.executable, "-c", "from flows.cli import main; main()"]
_TICK = 0.2  # seconds between two looks at memory


@dataclass(frozen=True, slots=True)
class Watched:
    """One command, ended well."""

    seconds: float
    mib: tuple[float, ...]
    """Memory in the course of it."""
    facts: dict[str, Any]
    """What it printed last as JSON."""

    @property
    def peak_mib(self) -> float:
        """The most it held."""
        return max(self.mib, default=0.0)

    def growth(self) -> float:
        """Peak of the second half of its time against that of the first."""
        middle = len(self.mib) // 2
        return max(self.mib[middle:], default=0.0) / max([1.0, *self.mib[:middle]])


def nightcap(*words: object) -> Watched:
    """Run `nightcap WORDS --json`; raises SideFailedError with its last words."""
    command = [*NIGHTCAP, *map(str, words), "--json"]
    with tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        found: list[float] = []
        done = threading.Event()
        watch = threading.Thread(target=_watch, args=(process.pid, found, done))
        watch.start()
        output, _ = process.communicate()
        seconds = time.perf_counter() - began
        done.set()
        watch.join()
        if process.returncode:
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:]
            raise SideFailedError(f"nightcap {words[0]} ended with {process.returncode}: {last}")
    return Watched(seconds, tuple(found), json.loads(output.splitlines()[-1]))


def _watch(pid: int, found: list[float], done: threading.Event) -> None:
    while True:
        if held := tree_memory(pid):
            found.append(held / 2**20)
        if done.wait(_TICK):
            return


def tree_memory(pid: int) -> int:
    """Bytes that a process and its descendants hold; 0 once it has ended."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.Error:
        return 0
    return total
