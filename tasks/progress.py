"""How far a unit of work has come, from wherever it runs to whoever shows it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Some more work is done."""

    stage: str
    done: int = 0
    """Pictures (or training steps) done since the last tick."""
    facts: dict[str, float] = field(default_factory=dict)
    """What else is worth showing, such as a loss."""


Sink = Callable[[Tick], object]
_sinks: list[Sink] = []


def tick(stage: str, done: int = 0, **facts: float) -> None:
    """Tell whoever listens that `done` more are done."""
    show(Tick(stage=stage, done=done, facts=facts))


def show(news: Tick) -> None:
    """Pass `news` to the innermost listener."""
    if _sinks:
        _sinks[-1](news)


def report_to(sink: Sink) -> None:
    """Make `sink` the listener of this process, for as long as it lives."""
    _sinks[:] = [sink]


@contextmanager
def listened(sink: Sink) -> Iterator[None]:
    """Make `sink` the listener inside the block."""
    _sinks.append(sink)
    try:
        yield
    finally:
        _sinks.remove(sink)
