"""Reference captions from a file, and the rows of a run that they belong to.

Files of COCO and Karpathy, lists and objects of captions as JSON, and tables with a column of ids
and one or more of captions. An id may be a row's key, path, file name (with or without ending),
sha256, or the number that its file name ends in, as COCO's ids are: which of them is told by what
matches most rows.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from storage.errors import ConfigurationError
from storage.sources.rows import TableRows
from storage.sources.table_file import TABLE_ENDINGS, open_table
from storage.sources.tree import Tree
from storage.urls import open_read

_IDS = ("id", "key", "image_id", "imgid", "sha256", "__key__")
_TRAILING = re.compile(r"(\d+)$")
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class References:
    """Captions by id; where a file knows its pictures by several names, a table for each."""

    shown: str
    tables: dict[str, dict[str, list[str]]]
    """From the kind of id to captions by id."""

    @property
    def count(self) -> int:
        """Pictures that have references."""
        return max(len(table) for table in self.tables.values())


@dataclass(frozen=True, slots=True)
class Match:
    """Which ids are the rows' own, and how many there are."""

    kind: str
    """Of the file's ids."""
    identity: str
    """What of a row it is compared with."""
    captions: dict[str, list[str]]

    def of(self, row: Row) -> list[str]:
        """The references of a row, none if it has none."""
        name = IDENTITIES[self.identity](row)
        return self.captions.get(name, []) if name else []

    def name(self, row: Row) -> str:
        """What the row is called in the file."""
        return IDENTITIES[self.identity](row)


def _stem(row: Row) -> str:
    name = str(row["path"] or "").rpartition("/")[2]
    return name.rpartition(".")[0] or name


def _number(row: Row) -> str:
    found = _TRAILING.search(_stem(row) if row["path"] else row["key"])
    return str(int(found[1])) if found else ""


IDENTITIES: dict[str, Callable[[Row], str]] = {
    "key": lambda row: str(row["key"]),
    "path": lambda row: str(row["path"] or ""),
    "file name": lambda row: str(row["path"] or "").rpartition("/")[2],
    "file name without ending": _stem,
    "sha256": lambda row: str(row["sha256"] or ""),
    "number at the end of the name": _number,
}


def read_references(url: str) -> References:
    """The captions in the file at `url`; ConfigurationError if it holds none that can be read."""
    shown = Tree(url).shown("")
    lower = url.lower()
    if not lower.endswith((*TABLE_ENDINGS, ".json")):
        known = ", ".join((*TABLE_ENDINGS, ".json"))
        raise ConfigurationError(f"references {shown!r} are of no known kind ({known})")
    if Tree(url).kind("") != "file":
        raise ConfigurationError(f"there are no references at {shown!r}")
    tables = _document(url, shown) if lower.endswith(".json") else {"id": _table(url)}
    tables = {kind: table for kind, table in tables.items() if table}
    if not tables:
        raise ConfigurationError(f"references {shown!r} hold no captions")
    return References(shown, tables)


def match_rows(references: References, rows: Callable[[], Iterable[Row]]) -> Match:
    """How ids and rows go together, told by most matches; `rows` gives the rows anew each time.

    ConfigurationError, with examples of both, if none match or an id belongs to several rows.
    """
    hits: Counter[tuple[str, str]] = Counter()
    example: Row | None = None
    for row in rows():
        example = example or row
        for identity, name_of in IDENTITIES.items():
            name = name_of(row)
            for kind, table in references.tables.items():
                hits[kind, identity] += bool(name) and name in table
    if not hits or not max(hits.values()):
        raise ConfigurationError(_no_match(references, example))
    kind, identity = max(hits, key=lambda pair: hits[pair])
    match = Match(kind, identity, references.tables[kind])
    _check_unique(match, rows(), references.shown)
    return match


def _check_unique(match: Match, rows: Iterable[Row], shown: str) -> None:
    seen: dict[str, str] = {}
    for row in rows:
        if match.of(row):
            name, place = match.name(row), f"{row['shard']} {row['path'] or row['key']}"
            if name in seen:
                raise ConfigurationError(
                    f"the id {name!r} of {shown!r} belongs to two rows by their {match.identity}, "
                    f"{seen[name]!r} and {place!r}: give ids that are unique, such as paths"
                )
            seen[name] = place


def _no_match(references: References, row: Row | None) -> str:
    ids = "; ".join(
        f"{kind} such as {', '.join(map(repr, list(table)[:3]))}"
        for kind, table in references.tables.items()
    )
    ours = "the run has no rows"
    if row is not None:
        named = {identity: name_of(row) for identity, name_of in IDENTITIES.items()}
        ours = "a row has " + ", ".join(f"{what} {name!r}" for what, name in named.items() if name)
    return (
        f"none of the {references.count} ids in {references.shown!r} is one of the run's rows: "
        f"the file has {ids}; {ours}"
    )


def _table(url: str) -> dict[str, list[str]]:
    with open_table(url) as table:
        names = {name.lower(): name for name in reversed(table.columns)}
    ids = next((names[name] for name in _IDS if name in names), "")
    rows = TableRows(url, ids, ())
    if not rows.caption_columns:
        raise ConfigurationError(f"references {Tree(url).shown('')!r} have no column of captions")
    return _gathered((row.path, text) for row in rows.sorted("") for text in row.captions)


def _document(url: str, shown: str) -> dict[str, dict[str, list[str]]]:
    try:
        with open_read(url) as file:
            content = json.load(file)
        if isinstance(content, dict) and isinstance(content.get("annotations"), list):
            return _coco(content)
        if isinstance(content, dict) and isinstance(content.get("images"), list):
            return _karpathy(content["images"])
        if isinstance(content, dict):
            pairs = ((name, text) for name, told in content.items() for text in _texts(told))
            return {"id": _gathered(pairs)}
        return {"id": _gathered((_id(one), text) for one in content for text in _said(one))}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(
            f"references {shown!r} are not captions of COCO, Karpathy, {{id: captions}} or "
            f"[{{id, caption}}]: {type(error).__name__} {error}"
        ) from error


def _coco(content: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    by_id = _gathered((str(one["image_id"]), one["caption"]) for one in content["annotations"])
    names = {str(one["id"]): str(one["file_name"]) for one in content.get("images", [])}
    by_name = {names[id_]: captions for id_, captions in by_id.items() if id_ in names}
    return {"image_id": by_id, "file_name": by_name}


def _karpathy(images: list[dict[str, Any]]) -> dict[str, dict[str, list[str]]]:
    tables: dict[str, dict[str, list[str]]] = {}
    for kind in ("filename", "cocoid", "imgid"):
        pairs = (
            (str(one[kind]), sentence["raw"])
            for one in images
            if kind in one
            for sentence in one["sentences"]
        )
        tables[kind] = _gathered(pairs)
    return tables


def _gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, text in pairs:
        if text.strip():
            found.setdefault(name, []).append(text)
    return found


def _id(one: dict[str, Any]) -> str:
    return str(next(one[name] for name in (*_IDS, "path", "file_name") if name in one))


def _said(one: dict[str, Any]) -> Iterator[str]:
    told = [one[name] for name in ("caption", "captions", "text", "texts") if name in one]
    for part in told:
        yield from _texts(part)


def _texts(told: Any) -> list[str]:
    return [told] if isinstance(told, str) else [text for text in told if isinstance(text, str)]
