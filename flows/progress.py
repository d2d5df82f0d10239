"""Progress as a person reads it: bars with rate and ETA on a terminal, plain lines elsewhere."""

import sys
import time
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from tasks.progress import Tick, listened

PLAIN_EVERY = 10.0
"""Seconds between two plain lines."""
_shown: list["Display"] = []


@dataclass(slots=True)
class _Stage:
    total: int
    shards: int
    began: float = field(default_factory=time.perf_counter)
    done: int = 0
    said: float = 0.0
    bar: TaskID | None = None
    first: tuple[float, float] | None = None
    """The first step that was heard of, and when: a resumed training begins in its middle."""

    @property
    def rate(self) -> float:
        return self.done / max(1e-9, time.perf_counter() - self.began)

    @property
    def left(self) -> str:
        seconds = (self.total - self.done) / self.rate if self.rate and self.total else 0
        return _clock(seconds)

    def steps_left(self, step: float, steps: float) -> str:
        """The time to the last step at the pace since the first that was heard of."""
        now = time.perf_counter()
        self.first = self.first or (step, now)
        pace = (step - self.first[0]) / max(1e-9, now - self.first[1])
        return _clock((steps - step) / pace) if pace else "?"


class Display:
    """Shows every stage on standard error while the block lasts."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._live = self._console.is_terminal and not quiet
        self._quiet = quiet
        self._stages: dict[str, _Stage] = {}
        self._bars = Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._live,
        )
        self._listening = listened(self.take)

    def __enter__(self) -> Self:
        self._bars.start()
        self._listening.__enter__()
        _shown.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _shown.remove(self)
        self._listening.__exit__(None, None, None)
        self._bars.stop()

    def begin(self, name: str, total: int, shards: int) -> None:
        """A stage starts on `total` pictures (0 for unknown) in `shards` shards."""
        stage = self._stages[name] = _Stage(total, shards)
        stage.bar = self._bars.add_task(name, total=total or None, note="")
        stage.said = time.perf_counter()
        if not self._live and shards:
            of = f"{total} pictures in {shards} shards" if total else f"{shards} to do"
            self._line(f"{name}: {of}")

    def take(self, tick: Tick) -> None:
        """Some more is done."""
        stage = self._stages.get(tick.stage)
        if stage is None:
            return
        stage.done += tick.done
        note = self._note(stage, tick)
        if stage.bar is not None:
            done = int(tick.facts.get("step", stage.done))
            total = tick.facts.get("steps", stage.total) or None
            self._bars.update(stage.bar, completed=done, total=total, note=note)
        if not self._live and time.perf_counter() - stage.said > PLAIN_EVERY:
            stage.said = time.perf_counter()
            self._line(f"{tick.stage}: {note}" if tick.facts else self._plain(tick.stage, stage))

    def end(self, name: str) -> None:
        """The stage is over, whatever came of it."""
        stage = self._stages.pop(name)
        if not self._live and stage.done:
            self._line(f"{name}: {stage.done} pictures, {stage.rate:.1f} a second")

    def _note(self, stage: _Stage, tick: Tick) -> str:
        if not tick.facts:
            return f"{stage.rate:.1f}/s"
        facts = dict(tick.facts)
        step, steps = facts.pop("step", 0), facts.pop("steps", 0)
        left = [f"step {step:.0f} of {steps:.0f}"] if steps else []
        left += [f"{name.replace('_', ' ')} {value:.4g}" for name, value in facts.items()]
        if steps:
            left.append(f"{stage.steps_left(step, steps)} left")
        return ", ".join(left)

    def _plain(self, name: str, stage: _Stage) -> str:
        of = f" of {stage.total}" if stage.total else ""
        return f"{name}: {stage.done}{of} pictures, {stage.rate:.1f} a second, {stage.left} left"

    def _line(self, text: str) -> None:
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - plain lines for logs


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def stage_begins(name: str, total: int, shards: int) -> None:
    """Tell the display, if there is one."""
    if _shown:
        _shown[-1].begin(name, total, shards)


def stage_ends(name: str) -> None:
    """Tell the display, if there is one."""
    if _shown:
        _shown[-1].end(name)
