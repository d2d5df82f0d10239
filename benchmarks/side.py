"""One side of a comparison, seen from here: a process with its own environment, and its memory."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

ROOT = Path(__file__).parent.parent
_TICK = 0.1  # seconds between two looks at memory


class SideFailedError(Exception):
    """A side ended before it answered; says with which last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideSpec:
    """How a side is started."""

    name: str
    """What the table calls it."""
    module: str
    """The module under `benchmarks.sides` that serves it."""
    setup: dict[str, Any] = field(default_factory=dict)
    """Its set-up, as JSON."""
    python: str = sys.executable
    """The interpreter of its environment."""
    threads: int = 1
    """Threads that it may compute with."""
    environment: dict[str, str] = field(default_factory=dict)
    """Further environment variables."""


class Side:
    """A running side; leaving the context ends its process.

    Between two orders its processes are stopped: an engine that spins while it waits would take
    cores from whoever is measured meanwhile.
    """

    def __init__(self, spec: SideSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self.facts: dict[str, Any] = {}
        self.peak_mib = 0.0
        """Most memory that its processes held together while they worked: resident set sizes."""
        self._process: subprocess.Popen[str] | None = None
        self._listener = threading.Thread()
        self._last_words: list[str] = []

    def __enter__(self) -> Self:
        threads = str(self.spec.threads)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            **self.spec.environment,
        }
        self._process = subprocess.Popen(
            [self.spec.python, "-m", f"benchmarks.sides.{self.spec.module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            self.facts = self._ask({**self.spec.setup, "threads": self.spec.threads})["ready"]
        except BaseException:
            self._end()
            raise
        self._signal("SIGSTOP")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def run(self, order: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the side found out doing one order; `seconds` is among it."""
        self._signal("SIGCONT")
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(done,))
        watch.start()
        try:
            return self._ask(order or {})
        finally:
            done.set()
            watch.join()
            self._signal("SIGSTOP")

    def _signal(self, name: str) -> None:
        """Send a signal to its processes, where the system has such a one."""
        number = getattr(signal, name, None)
        if number is None or self._process is None:
            return
        for process in _family(self._process.pid, itself=True):
            with suppress(psutil.Error):
                process.send_signal(number)

    def _ask(self, line: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise SideFailedError(f"{self.name} is not running")
        try:
            process.stdin.write(json.dumps(line) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # what it wrote to its errors says more
        answer = process.stdout.readline()
        if not answer:
            process.wait()
            self._listener.join(timeout=5)
            words = " | ".join(self._last_words[-3:])
            raise SideFailedError(f"{self.name} ended with {process.returncode}: {words}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        self._signal("SIGCONT")
        children = _family(process.pid)
        if process.stdin:
            with suppress(BrokenPipeError):
                process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in children:
            with suppress(psutil.Error):
                child.kill()
        self._listener.join(timeout=5)
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()

    def _listen(self) -> None:
        for line in (self._process and self._process.stderr) or ():
            if line.strip():
                self._last_words = [*self._last_words[-20:], line.strip()[:300]]

    def _watch(self, done: threading.Event) -> None:
        while self._process:
            self.peak_mib = max(self.peak_mib, resident_mib(self._process.pid))
            if done.wait(_TICK):
                return


def resident_mib(pid: int) -> float:
    """MiB resident of a process and its descendants, shared pages counted in each."""
    total = 0
    for process in _family(pid, itself=True):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total / 2**20


def _family(pid: int, *, itself: bool = False) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        children = parent.children(recursive=True)
    except psutil.Error:
        return []
    return [parent, *children] if itself else children
