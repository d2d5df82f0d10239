"""Runs of captions: where they lie and how they are read."""

from collections.abc import Iterator

import pyarrow as pa

from storage.errors import ConfigurationError
from storage.layout import Root, open_root
from storage.outputs import OutputStore
from storage.parquet import read
from storage.plan_file import read_plans
from storage.schema import CAPTIONS
from storage.settled import SettingsFile, Settled
from storage.urls import folders, join

STAGE = "caption"


def run_settings(root: Root) -> SettingsFile:
    """Where each run's settings are kept: `captions/<run>/run.json`."""
    return SettingsFile(parent=join(root.url, "captions"), file="run.json")


def caption_store(root: Root, settled: Settled) -> OutputStore:
    """The captions of one run."""
    return OutputStore(root, root.run(settled.name), STAGE, settled.fingerprint)


def open_captions(
    root: str, run: str = "", *, history: bool = False, columns: list[str] | None = None
) -> pa.RecordBatchReader:
    """The committed rows of a run as a stream of record batches, in order of shard.

    Of a picture captioned again because its content changed, the newest row is given, or all
    with `history=True`. `run` may be left out where there is only one. Pass the reader on to
    pandas (`.read_pandas()`), Polars, DuckDB or `.read_all()`.
    """
    place = open_root(root)
    settled = find_captions(place, run)
    store = caption_store(place, settled)
    names = columns or CAPTIONS.names
    schema = pa.schema([CAPTIONS.field(column) for column in names])
    several = len(store.batches()) > 1 and not history
    tables = _newest(store, names) if several else caption_tables(store, names)
    batches = (batch for table in tables for batch in table.cast(schema).to_batches())
    return pa.RecordBatchReader.from_batches(schema, batches)


def find_captions(root: Root, run: str = "") -> Settled:
    """The settings of a run, or of the only one; ConfigurationError if there is no such run."""
    name = run or only_run(root)
    settled = run_settings(root).read(name)
    if settled is None:
        raise ConfigurationError(f"there is no run {name!r}: {_known(root)}")
    return settled


def only_run(root: Root) -> str:
    """The name of the only run; ConfigurationError if there is none or a choice."""
    runs = folders(join(root.url, "captions"))
    if len(runs) != 1:
        raise ConfigurationError(f"name a run: {_known(root)}")
    return runs[0]


def caption_tables(store: OutputStore, columns: list[str]) -> Iterator[pa.Table]:
    """Every committed row of a run, a row group at a time, in order of shard."""
    for batch in store.batches():
        yield from _tables(store, batch, columns)


def _newest(store: OutputStore, columns: list[str]) -> Iterator[pa.Table]:
    """Rows whose path has no row in a later batch of the same collection; all without a path.

    Only the paths of the batches after each collection's first are held in memory.
    """
    batches = store.batches()
    newest: dict[str, dict[str, str]] = {}
    for collection in _collections(store.root, batches):
        last: dict[str, str] = {}
        for batch in collection[1:]:
            for table in _tables(store, batch, ["path"]):
                last.update(dict.fromkeys(filter(None, table["path"].to_pylist()), batch))
        newest.update(dict.fromkeys(collection, last))
    for batch in batches:
        for table in _tables(store, batch, sorted({*columns, "path"})):
            paths = table["path"].to_pylist()
            kept = [path is None or newest[batch].get(path, batch) == batch for path in paths]
            yield table.filter(pa.array(kept, pa.bool_())).select(columns)


def _collections(root: Root, batches: list[str]) -> list[list[str]]:
    """`batches` by the folder that their paths are relative to, each in the order of planning.

    Those without a plan (embeddings of others) are one more collection, in the order given.
    """
    left = dict.fromkeys(batches)
    found: dict[str, list[str]] = {}
    for plan in read_plans(root):
        if plan.batch in left:
            del left[plan.batch]
            found.setdefault(plan.base, []).append(plan.batch)
    return [*found.values(), list(left)]


def _tables(store: OutputStore, batch: str, columns: list[str]) -> Iterator[pa.Table]:
    for record in store.receipts(batch).values():
        yield from read(store.root.absolute(record.receipt.files[0].url), columns)


def _known(root: Root) -> str:
    runs = folders(join(root.url, "captions"))
    return f"there are {', '.join(map(repr, runs))}" if runs else "none has been made here yet"
