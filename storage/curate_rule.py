"""One rule of a recipe: a column and the test it must pass, or which duplicates are dropped."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from storage.curate_columns import TEXTS, is_score
from storage.duplicate_methods import Methods, read_methods
from storage.errors import ConfigurationError

Scalar = str | float | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Rows that fail it are dropped under its name; a null value fails unless `nulls` is keep."""

    name: str
    column: str = ""
    text: str = ""
    """Whose words, chars, … are measured."""
    min: float | None = None
    max: float | None = None
    above: float | None = None
    """Like `min`, the number itself excluded."""
    below: float | None = None
    top: float | None = None
    """Keep this share of the rows with the highest values, ties at its border included."""
    bottom: float | None = None
    """Keep this share of the rows with the lowest values."""
    of: str = "all"
    """A share of `all` rows that have a value, or of those that the rules above have `left`."""
    within: tuple[Scalar, ...] = ()
    without: tuple[Scalar, ...] = ()
    matches: str = ""
    """A regular expression (RE2) found somewhere in the text."""
    not_matches: str = ""
    nulls: str = "drop"
    scorer: str = ""
    duplicates: Methods | None = None
    keep: str = "clip_sim"
    """Of each group of duplicates, the row with the highest value of this column stays."""
    off: bool = False
    why: str = ""

    def facts(self) -> dict[str, Any]:
        """What decides, as far as it is not the default."""
        usual = asdict(Rule(name="")) | {"name": None, "text": self.text if self.duplicates else ""}
        given = asdict(self) | {"why": ""}
        return {key: value for key, value in given.items() if value != usual[key]}

    @property
    def is_share(self) -> bool:
        """Whether the limit depends on all rows."""
        return self.top is not None or self.bottom is not None

    @property
    def limits(self) -> dict[str, float]:
        """The numbers a value is compared with, by operator."""
        pairs = {">=": self.min, "<=": self.max, ">": self.above, "<": self.below}
        return {sign: limit for sign, limit in pairs.items() if limit is not None}

    @property
    def is_numeric(self) -> bool:
        """Whether it compares by size."""
        return self.is_share or bool(self.limits)

    @property
    def is_regex(self) -> bool:
        """Whether it looks into a text."""
        return bool(self.matches or self.not_matches)


def read_rule(body: dict[str, Any], text: str, scorer: str) -> Rule:
    """The rule that `body` describes, `text` and `scorer` being the recipe's own."""
    name = body.get("name") or body.get("column") or ("duplicates" if "duplicates" in body else "")
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"rule {body!r} has neither 'column' nor 'duplicates'")
    given = {key: value for key, value in body.items() if key not in ("name", *_METHOD_KEYS)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in _READERS:
            near = get_close_matches(str(key), [*_READERS, *_METHOD_KEYS], 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(f"rule {name!r}: unknown key {key!r}{hint}")
        field, read = _READERS[key]
        try:
            values[field] = read(value)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"rule {name!r}: {key}: {error}") from error
    duplicates = read_methods({k: body[k] for k in _METHOD_KEYS if k in body}, f"rule {name!r}")
    values.setdefault("text", text)
    if is_score(values.get("column", "")):
        values.setdefault("scorer", scorer)
    rule = Rule(name=name, duplicates=duplicates, **values)
    _check_tests(rule)
    return rule


def _check_tests(rule: Rule) -> None:
    tests = [bool(rule.limits), rule.is_share, bool(rule.within), bool(rule.without), rule.is_regex]
    if rule.duplicates:
        if any(tests) or rule.column:
            raise ConfigurationError(
                f"rule {rule.name!r}: 'duplicates' goes with no column and no test"
            )
    elif sum(tests) != 1:
        raise ConfigurationError(
            f"rule {rule.name!r} needs exactly one kind of test: min/max/above/below, top or "
            "bottom, equals/in, not_in, or matches"
        )
    if rule.top is not None and rule.bottom is not None:
        raise ConfigurationError(f"rule {rule.name!r}: give top or bottom, not both")
    lower, upper = rule.limits.get(">="), rule.limits.get("<=")
    if lower is not None and upper is not None and lower > upper:
        raise ConfigurationError(f"rule {rule.name!r}: min {lower:g} is above max {upper:g}")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _share(value: Any) -> float:
    share = _number(value)
    if not 0 < share < 1:
        raise ValueError(f"{value!r} is not a share between 0 and 1")
    return share


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not a text (put it in quotes)")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _list(value: Any) -> tuple[Scalar, ...]:
    values = tuple(value) if isinstance(value, list) else (value,)
    for one in values:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise TypeError(f"{one!r} is neither text nor number (put words such as no in quotes)")
    if not values or len({isinstance(one, str) for one in values}) != 1:
        raise TypeError(f"{value!r} is not a list of texts or of numbers")
    return values


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is none of {', '.join(words)}")
        return str(value)

    return read


def _keep(value: Any) -> str:
    words = value.split() if isinstance(value, str) else []
    if len(words) != 2 or words[0] != "best":
        raise ValueError(f"{value!r} is not 'best COLUMN'")
    return str(words[1])


_METHOD_KEYS = ("duplicates", "distance", "cosine", "against")
_READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "column": ("column", _text),
    "text": ("text", _one_of(*TEXTS)),
    **{key: (key, _number) for key in ("min", "max", "above", "below")},
    **{key: (key, _share) for key in ("top", "bottom")},
    "of": ("of", _one_of("all", "left")),
    "equals": ("within", _list),
    "in": ("within", _list),
    "not_in": ("without", _list),
    "matches": ("matches", _text),
    "not_matches": ("not_matches", _text),
    "nulls": ("nulls", _one_of("drop", "keep")),
    "scorer": ("scorer", _text),
    "keep": ("keep", _keep),
    "off": ("off", _flag),
    "why": ("why", _text),
}
"""How each key of a rule is read, and the field it fills."""
