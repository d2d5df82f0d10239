"""Keeps a library's own chatter off the terminal of whoever uses us."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging

_LOGGING: Any = logging  # transformers' annotations of it are absent


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and advice from the terminal of whoever uses us."""
    level, bars = (
        _LOGGING.get_verbosity(),
        _LOGGING.is_progress_bar_enabled(),
    )
    _LOGGING.set_verbosity_error()
    _LOGGING.disable_progress_bar()
    try:
        yield
    finally:
        _LOGGING.set_verbosity(level)
        if bars:
            _LOGGING.enable_progress_bar()
