"""`name=value` words from a command line, as settings with values."""

import json
from collections.abc import Iterable
from typing import Any

from storage.errors import ConfigurationError


def assignments(words: Iterable[str]) -> dict[str, Any]:
    """The settings that `words` name: JSON where a value is JSON, else its text.

    Raises ConfigurationError for a word without `=` and for a name that comes twice.
    """
    settings: dict[str, Any] = {}
    for word in words:
        name, sign, value = word.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not name:
            raise ConfigurationError(f"--set {word!r} is not NAME=VALUE")
        if name in settings:
            raise ConfigurationError(f"--set gives {name!r} twice")
        settings[name] = _value(value.strip())
    return settings


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
