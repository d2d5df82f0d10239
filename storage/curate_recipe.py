"""Recipes: which rows of a run are kept, as YAML that is read strictly.

A recipe is a list of rules, tried in order; the first that fails names why a row was dropped. It
knows no data: which columns exist is `storage.curate_columns`' to say.
"""

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from storage.curate_columns import COLUMNS, TEXTS, is_number, is_score
from storage.curate_rule import Rule, read_rule
from storage.errors import ConfigurationError
from storage.layout import plain_name

SHIPPED = Path(__file__).parent / "recipes"
_KEYS = ("recipe", "about", "source", "deviations", "text", "scorer", "rules")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is kept, and where that rule of thumb comes from."""

    name: str
    about: str = ""
    source: str = ""
    deviations: tuple[str, ...] = field(default=())
    """How it differs from what its source describes."""
    text: str = "caption"
    """The column that words, chars, sim and other measures of text are taken of."""
    scorer: str = ""
    """The encoder whose scores the rules were made for."""
    rules: tuple[Rule, ...] = ()

    def facts(self) -> dict[str, Any]:
        """All that decides what is kept, for the fingerprint and waterfall.json."""
        rules = [rule.facts() for rule in self.rules]
        return {"recipe": self.name, "text": self.text, "scorer": self.scorer, "rules": rules}


def shipped_recipes() -> dict[str, Recipe]:
    """Every recipe that goes by a name."""
    return {path.stem: load_recipe(path.stem) for path in sorted(SHIPPED.glob("*.yaml"))}


def load_recipe(name: str, changes: tuple[str, ...] = ()) -> Recipe:
    """The shipped recipe called `name`, or the one in that file, with `changes` to it.

    A change is `text=orig_caption`, `scorer=NAME` or `RULE.KEY=VALUE`; `RULE.off=true` leaves a
    rule out, `RULE.KEY=` takes a key away. Raises
    ConfigurationError in one sentence for whatever does not fit.
    """
    body = _parse(_text_of(name), name)
    _check_keys(body, _KEYS, f"recipe {name!r}")
    rules = body.get("rules")
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise ConfigurationError(f"recipe {name!r}: 'rules' must be a list of rules")
    for change in changes:
        _change(body, change)
    return _recipe(body, name)


def _recipe(body: dict[str, Any], name: str) -> Recipe:
    texts = {key: body.get(key, "") for key in ("recipe", "about", "source", "scorer")}
    texts["text"] = body.get("text", "caption")
    for key, value in texts.items():
        if not isinstance(value, str):
            raise ConfigurationError(f"recipe {name!r}: {key!r} must be text, not {value!r}")
    if texts["text"] not in TEXTS:
        raise ConfigurationError(
            f"recipe {name!r}: text {texts['text']!r} is none of {', '.join(TEXTS)}"
        )
    rules = tuple(read_rule(rule, texts["text"], texts["scorer"]) for rule in body["rules"])
    rules = tuple(rule for rule in rules if not rule.off)
    names = [rule.name for rule in rules]
    for rule in rules:
        _check_rule(rule, names)
    deviations = body.get("deviations", [])
    if not isinstance(deviations, list):
        raise ConfigurationError(f"recipe {name!r}: 'deviations' must be a list of sentences")
    own = plain_name(texts.pop("recipe") or Path(name).stem, "recipe")
    return Recipe(name=own, deviations=tuple(map(str, deviations)), rules=rules, **texts)


def _check_rule(rule: Rule, names: list[str]) -> None:
    """ConfigurationError for a column that is not there or cannot bear the rule's test."""
    if names.count(rule.name) > 1:
        raise ConfigurationError(f"two rules are called {rule.name!r}: give one a 'name'")
    if rule.duplicates:
        if rule.keep not in COLUMNS or not is_number(rule.keep):
            near = nearest(rule.keep, [name for name in COLUMNS if is_number(name)])
            raise ConfigurationError(f"rule {rule.name!r}: no number {rule.keep!r}{near}")
        return
    if rule.column not in COLUMNS:
        near = nearest(rule.column, COLUMNS)
        raise ConfigurationError(f"rule {rule.name!r}: no column {rule.column!r}{near}")
    if rule.is_numeric and not is_number(rule.column):
        raise ConfigurationError(
            f"rule {rule.name!r}: {rule.column!r} is text: use equals, in or matches"
        )
    if rule.is_regex and is_number(rule.column):
        raise ConfigurationError(
            f"rule {rule.name!r}: {rule.column!r} is a number: use min, max, top or bottom"
        )
    if is_score(rule.column) and not rule.scorer:
        raise ConfigurationError(
            f"rule {rule.name!r}: {rule.column!r} needs a 'scorer', the encoder whose scores its "
            "numbers are meant for: scores of different encoders cannot be compared"
        )


def nearest(word: str, known: Any) -> str:
    """`; did you mean X?`, or what is known."""
    near = get_close_matches(str(word), list(known), 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f": give one of {', '.join(known)}"


def _check_keys(body: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in body:
        if key not in known:
            raise ConfigurationError(f"{where}: unknown key {key!r}{nearest(key, known)}")


def _change(body: dict[str, Any], change: str) -> None:
    place, equals, text = change.partition("=")
    if not equals:
        raise ConfigurationError(f"--set {change!r} is not NAME=VALUE")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"--set {change!r}: {text!r} is no YAML value") from error
    if place in ("text", "scorer"):
        body[place] = value
        return
    name, _, key = place.rpartition(".")
    names = {_called(rule): rule for rule in body["rules"]}
    if name not in names:
        known = ["text", "scorer", *(f"{rule}.KEY" for rule in names)]
        raise ConfigurationError(f"--set {change!r}: nothing is called {place!r}; there are "
                                 f"{', '.join(known)}")  # fmt: skip
    if value is None:
        names[name].pop(key, None)
    else:
        names[name][key] = value


def _called(rule: dict[str, Any]) -> str:
    return str(rule.get("name") or rule.get("column") or "duplicates")


def _text_of(name: str) -> str:
    shipped = SHIPPED / f"{name}.yaml"
    file = shipped if shipped.parent == SHIPPED and shipped.is_file() else Path(name)
    try:
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        known = [path.stem for path in sorted(SHIPPED.glob("*.yaml"))]
        raise ConfigurationError(
            f"there is no recipe {name!r}{nearest(name, known)}, or give a YAML file"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"recipe {name!r} is not UTF-8 text") from error


class _Strict(yaml.SafeLoader):
    """Plain YAML in which a key may stand once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(problem=f"the key {key!r} stands twice")
        return super().construct_mapping(node, deep=deep)


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        body = yaml.load(text, _Strict)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, TypeError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise ConfigurationError(f"recipe {name!r} is not valid YAML: {said}") from error
    if not isinstance(body, dict):
        raise ConfigurationError(f"recipe {name!r} must hold 'rules', a list of rules")
    return body
