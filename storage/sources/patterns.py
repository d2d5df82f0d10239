"""Globs and braces over paths: what a pattern's fixed part is, and what its free part matches."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import escape as glob_escape
from itertools import islice

from braceexpand import braceexpand
from fsspec.utils import glob_translate

from storage.errors import ConfigurationError
from storage.urls import redact

MOST = 1_000_000
"""Names one brace pattern may stand for."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A fixed folder and the patterns of what lies below it."""

    base: str
    alternatives: tuple[str, ...]
    written: str = ""
    """The free part as its user wrote it; empty for a whole folder."""

    def matcher(self) -> Callable[[str], bool]:
        """Whether a path relative to the base is meant."""
        whole = re.compile("|".join(f"(?:{_regex(one)})" for one in self.alternatives))
        return lambda path: whole.fullmatch(path) is not None

    def enters(self, folder: str) -> bool:
        """Whether something below `folder` (relative to the base) can match."""
        names = folder.split("/")
        return any(_leads(names, one.split("/")) for one in self.alternatives)


def has_glob(text: str) -> bool:
    """Whether `text` has signs that stand for any name."""
    return any(sign in text for sign in "*?[")


def has_magic(text: str) -> bool:
    """Whether `text` is a glob or a brace pattern."""
    return has_glob(text) or "{" in text


def whole(folder: str) -> Pattern:
    """Everything below `folder`."""
    return Pattern(folder, ("**",), "")


def single(url: str) -> Pattern:
    """One file, whatever signs its name has."""
    base, _, name = url.rpartition("/")
    return Pattern(base or ("/" if url.startswith("/") else "."), (glob_escape(name),), name)


def parse_pattern(source: str) -> Pattern:
    """Split `source` at its first component that is not fixed."""
    head, _, rest = source.rpartition("://")
    parts = rest.split("/")
    fixed = next((n for n, part in enumerate(parts) if has_magic(part)), len(parts) - 1)
    folder = "/".join(parts[:fixed]) or ("/" if rest.startswith("/") else ".")
    base = f"{head}://{folder}" if head else folder
    free = "/".join(parts[fixed:])
    return Pattern(base, tuple(_expand(free, source)), free)


def _expand(text: str, source: str) -> list[str]:
    try:
        names = list(islice(braceexpand(text), MOST + 1))
    except ValueError:  # a brace that nothing closes is only a name
        return [text]
    if len(names) > MOST:
        raise ConfigurationError(f"{redact(source)!r} stands for more than {MOST:,} names")
    return names


def _regex(glob: str) -> str:
    try:
        text: str = glob_translate(glob)
    except ValueError as error:
        raise ConfigurationError(
            f"pattern {glob!r} is not possible: '**' must stand alone between slashes"
        ) from error
    return text.removesuffix(r"\Z").removesuffix(r"\z")


def _leads(folder: list[str], pattern: list[str]) -> bool:
    for name, part in zip(folder, pattern, strict=False):
        if part == "**":
            return True
        if not fnmatchcase(name, part):
            return False
    return len(folder) < len(pattern)
