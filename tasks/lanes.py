"""Lanes: long-lived worker processes that hold a model each, and can be ended from outside.

A thread cannot be interrupted; a process can. A task hands its unit of work to a free lane and
waits. A lane that dies or exceeds its time is replaced, and the task sees `LaneLost`, which is
worth a retry. Once its lanes are closed a task is refused, which is not. With no lanes open, a unit
runs in the process that asks.
"""

import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar, Token
from importlib import import_module
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, Self

from tasks.progress import Tick, report_to, show

STARTS_WITHIN = 300.0
"""Seconds that a process may take until its unit of work can begin."""

_current: ContextVar["Lanes | None"] = ContextVar("lanes", default=None)
"""Of the context that asks: a task keeps the lanes of its flow, also when those are closed."""


class LaneLost(OSError):
    """The process that did the work died or was ended for taking too long; try again."""

    code = "worker_killed"
    """What a picture's row says if the picture alone is the cause."""


class LaneTimeout(LaneLost):
    """The process took longer than it may and was ended."""

    code = "timeout"


class LanesClosed(Exception):
    """The lanes were closed, because whoever opened them is done or was interrupted."""


class Lanes:
    """`count` worker processes; 0 means that everything runs in this process.

    Use it as a context: tasks started inside find it through `in_lane`.
    """

    def __init__(self, count: int, *, timeout: float = 3600.0) -> None:
        """`timeout` in seconds bounds one unit of work."""
        self.count = count
        self.timeout = timeout
        self.work_seconds = 0.0
        """Spent inside units so far, by all lanes together; those that failed are not in it."""
        self._adding = threading.Lock()
        self._context = multiprocessing.get_context("spawn")
        self._ticks: SimpleQueue[Tick | None] = self._context.SimpleQueue()
        self._lanes = [_Lane(number, self._context, self._ticks) for number in range(count)]
        self._free: queue.Queue[_Lane] = queue.Queue()
        self._closed = False
        self._before: Token[Lanes | None] | None = None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        for lane in self._lanes:
            self._free.put(lane)

    def __enter__(self) -> Self:
        self._listener.start()
        self._before = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            _current.reset(self._before)
        self.close()
        for lane in [self._free.get() for _ in self._lanes]:  # each comes back once it is ended
            lane.stop()
            self._free.put(lane)  # for whoever waits, to be refused
        self._ticks.put(None)
        self._listener.join()

    def close(self) -> None:
        """End every lane, whatever it does: calls that wait for one and later ones are refused."""
        self._closed = True
        for lane in self._lanes:
            lane.end()

    def call(self, unit: str, *args: Any) -> Any:
        """What `unit(*args)` returns, done in a free lane.

        Raises what it raises, LaneLost, or LanesClosed. `unit` is `module:function`, imported
        where it runs: this process never loads a model.
        """
        result, seconds = self._timed(unit, args)
        with self._adding:
            self.work_seconds += seconds
        return result

    def _timed(self, unit: str, args: tuple[Any, ...]) -> tuple[Any, float]:
        if not self.count and not self._closed:
            return timed_unit(unit, *args)
        lane = self._free.get() if self.count else None
        try:
            if lane is None or self._closed:
                raise LanesClosed(f"{unit} was not begun: its lanes are closed")
            return lane.result(unit, args, self.timeout)
        except LaneLost as error:
            if self._closed:
                raise LanesClosed(f"{unit} was ended: its lanes are closed") from error
            raise
        finally:
            if lane:
                self._free.put(lane)

    def _listen(self) -> None:
        while tick := self._ticks.get():
            show(tick)


def in_lane(unit: str, *args: Any) -> Any:
    """`unit(*args)` in a free lane of the lanes that are open, or here if none are."""
    lanes = _current.get()
    return lanes.call(unit, *args) if lanes else run_unit(unit, *args)


def work_seconds() -> float:
    """Seconds that the lanes that are open have spent inside units; 0 if none are open."""
    lanes = _current.get()
    return lanes.work_seconds if lanes else 0.0


def close_lanes() -> None:
    """End all work in the lanes that are open; what is asked of them from now on is refused."""
    if lanes := _current.get():
        lanes.close()


@contextmanager
def open_lanes(count: int, timeout: float) -> Iterator[Lanes]:
    """The lanes that are open already, or else new ones for the length of the block."""
    if standing := _current.get():
        yield standing
        return
    with Lanes(count, timeout=timeout) as lanes:
        yield lanes


def run_unit(unit: str, *args: Any) -> Any:
    """Import `module:function` and call it."""
    return timed_unit(unit, *args)[0]


def timed_unit(unit: str, *args: Any) -> tuple[Any, float]:
    """As `run_unit`, and the seconds that the function itself took."""
    module, _, function = unit.partition(":")
    work = getattr(import_module(module), function)
    began = time.perf_counter()
    result = work(*args)
    return result, time.perf_counter() - began


class _Lane:
    """One worker process, started on first use and again after it was lost."""

    def __init__(
        self, number: int, context: SpawnContext, ticks: "SimpleQueue[Tick | None]"
    ) -> None:
        self._number = number
        self._context = context
        self._ticks = ticks
        self._pool: ProcessPoolExecutor | None = None
        self._ended = False

    def result(self, unit: str, args: tuple[Any, ...], timeout: float) -> tuple[Any, float]:
        future: Future[Any] = Future()
        try:
            if self._pool is None:
                self._pool = self._start()
                future = self._pool.submit(_ready, unit)
                if self._ended:
                    self._kill()  # `end` came before there was a process to see
                future.result(max(timeout, STARTS_WITHIN))
            future = self._pool.submit(timed_unit, unit, *args)
            result: tuple[Any, float] = future.result(timeout)
        except BrokenProcessPool as error:
            self.stop()
            raise LaneLost(f"the worker process died during {unit}") from error
        except TimeoutError as error:
            if future.done():
                raise  # the unit's own
            self.stop()
            raise LaneTimeout(f"{unit} took more than {timeout:g} s and was ended") from error
        return result

    def end(self) -> None:
        """Kill the process for good, from any thread: whoever waits for it sees LaneLost."""
        self._ended = True
        self._kill()

    def stop(self) -> None:
        if self._pool is None:
            return
        self._kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None

    def _kill(self) -> None:
        pool = self._pool
        processes = list((pool._processes or {}).values()) if pool else []  # noqa: SLF001 - no public way to end one
        for process in processes:
            process.kill()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1, self._context, initializer=_begin, initargs=(self._number, self._ticks)
        )


def _ready(unit: str) -> None:
    """Import what the unit needs, which is no part of its time."""
    import_module(unit.partition(":")[0])


def _begin(number: int, ticks: "SimpleQueue[Tick | None]") -> None:
    """Prepare a lane: its own GPU where there are several, ticks sent home, no life of its own."""
    gpus = [node.name.removeprefix("nvidia") for node in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(gpus)).split(",")
    if len(visible) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[number % len(visible)]
    report_to(ticks.put)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        time.sleep(0.1)
        os._exit(1)
