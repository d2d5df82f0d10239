"""A run's captions beside their references: from a file, or from the pictures' own captions."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from storage.captions import find_captions, open_captions
from storage.errors import ConfigurationError
from storage.layout import Root, ShardName, open_root
from storage.references import match_rows, read_references
from storage.sampling import Smallest, mark_of
from storage.shards import ShardStore

_COLUMNS = ["shard", "key", "path", "sha256", "caption", "clip_sim", "orig_clip_sim"]
OWN = "the pictures' own captions"


@dataclass(frozen=True, slots=True)
class Judged:
    """One caption with what it is judged by."""

    shard: str
    key: str
    caption: str
    clip_sim: float | None
    references: tuple[str, ...]

    @property
    def name(self) -> tuple[str, str]:
        """Identity of the row."""
        return self.shard, self.key


@dataclass(frozen=True, slots=True)
class Joined:
    """Captions with references, and exact counts of all that was left out."""

    rows: list[Judged]
    counts: dict[str, Any]


def join_references(url: str, run: str, references: str, size: int) -> Joined:
    """The captions of `run` that have references, in order of row.

    Of more than `size`, so many are drawn by their names. `references` is a file, empty for what
    the pictures came with. ConfigurationError if nothing matches or an id is ambiguous.
    """
    root = open_root(url)
    name = find_captions(root, run).name

    def rows() -> Iterator[dict[str, Any]]:
        for batch in open_captions(url, name, columns=_COLUMNS):
            yield from batch.to_pylist()

    if references:
        return _from_file(rows, references, size)
    return _taken(rows(), _own(root), size, {"references": OWN})


def _from_file(rows: Callable[[], Iterator[dict[str, Any]]], url: str, size: int) -> Joined:
    known = read_references(url)
    match = match_rows(known, rows)
    counts = {"references": known.shown, "matched_by": f"{match.kind} = {match.identity}"}
    joined = _taken(rows(), match.of, size, counts)
    seen = {match.name(row) for row in rows() if match.of(row)}
    left = [name for name in match.captions if name not in seen]
    joined.counts["references_without_row"] = len(left)
    joined.counts["examples"] = left[:3]
    return joined


def _taken(
    rows: Iterator[dict[str, Any]],
    of: Callable[[Mapping[str, Any]], list[str]],
    size: int,
    counts: dict[str, Any],
) -> Joined:
    found: Smallest[Judged] = Smallest(size)
    total = failed = bare = 0
    for row in rows:
        total += 1
        known = tuple(of(row))
        if not known:
            bare += 1
        elif row["caption"] is None:
            failed += 1
        else:
            one = Judged(row["shard"], row["key"], row["caption"], row["clip_sim"], known)
            found.add(mark_of(*one.name), one)
    if not found.offered:
        raise ConfigurationError(
            f"no caption has references in {counts['references']!r}: {total} rows, {bare} without "
            f"references, {failed} that failed"
        )
    counts |= {"rows": total, "without_references": bare, "failed": failed}
    counts |= {"matched": found.offered, "evaluated": min(size, found.offered)}
    return Joined(sorted(found.things(), key=lambda one: one.name), counts)


def _own(root: Root) -> Callable[[Mapping[str, Any]], list[str]]:
    """The captions a picture came with, read from its shard's index, one shard at a time."""
    store = ShardStore(root)
    held: tuple[str, dict[str, list[str]]] = ("", {})

    def of(row: Mapping[str, Any]) -> list[str]:
        nonlocal held
        if held[0] != row["shard"]:
            captions: dict[str, list[str]] = {}
            if store.receipt(shard := ShardName.parse(row["shard"])):
                for table in store.index(shard):
                    pairs = zip(
                        table["key"].to_pylist(), table["captions"].to_pylist(), strict=True
                    )
                    captions.update(pairs)
            held = row["shard"], captions
        return held[1].get(row["key"], [])

    return of
