"""Rows as they were before reviewers changed them, so that an undo is exact after `apply-edits`.

The files lie under `ROOT/edits/<run>/originals/<batch>/`, named by their content, one for each
time that rows of a shard were changed for the first time; none is ever changed or removed.
"""

from collections.abc import Sequence
from typing import Any

from storage.commit import create, scratch
from storage.edits import ORIGINALS
from storage.layout import Root, ShardName
from storage.parquet import encode, read, rows_to_table
from storage.schema import CAPTIONS
from storage.urls import join, listing


def read_originals(root: Root, run: str, shard: ShardName) -> dict[str, dict[str, Any]]:
    """The first row of each key, by key; of several files the one named last wins."""
    folder = _folder(root, run, shard)
    found: dict[str, dict[str, Any]] = {}
    for name in listing(folder, f"{shard.stem}-"):
        for table in read(join(folder, name)):
            found.update((row["key"], row) for row in table.to_pylist())
    return found


def keep_originals(root: Root, run: str, shard: ShardName, rows: Sequence[dict[str, Any]]) -> None:
    """Keep `rows` (of CAPTIONS, unique keys) before anything supersedes them."""
    if not rows:
        return
    folder = _folder(root, run, shard)
    number = len(listing(folder, f"{shard.stem}-"))
    with scratch() as place:
        made = encode([rows_to_table(rows, CAPTIONS)], CAPTIONS, place / "data.parquet")
        name = f"{shard.stem}-{number:04}-{made.sha256[:16]}.parquet"
        create(join(folder, name), made.path.read_bytes())


def _folder(root: Root, run: str, shard: ShardName) -> str:
    return join(root.edits(run), ORIGINALS, shard.batch)
