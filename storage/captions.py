"""Runs of captions: where they lie and how they are read."""

from collections.abc import Iterator

import pyarrow as pa

from storage.errors import ConfigurationError
from storage.layout import Root, open_root
from storage.outputs import OutputStore
from storage.parquet import read
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
        for record in store.receipts(batch).values():
            yield from read(store.root.absolute(record.receipt.files[0].url), columns)


def _newest(store: OutputStore, columns: list[str]) -> Iterator[pa.Table]:
    """Rows whose path has no row in a later batch; rows without a path are all kept.

    Only the paths of the batches after the first are held in memory.
    """
    later: dict[str, str] = {}
    for batch in store.batches()[1:]:
        for record in store.receipts(batch).values():
            for table in read(store.root.absolute(record.receipt.files[0].url), ["path"]):
                later.update(dict.fromkeys(filter(None, table["path"].to_pylist()), batch))
    for batch in store.batches():
        for record in store.receipts(batch).values():
            url = store.root.absolute(record.receipt.files[0].url)
            for table in read(url, sorted({*columns, "path"})):
                paths = table["path"].to_pylist()
                kept = [path is None or later.get(path, batch) <= batch for path in paths]
                yield table.filter(pa.array(kept)).select(columns)


def _known(root: Root) -> str:
    runs = folders(join(root.url, "captions"))
    return f"there are {', '.join(map(repr, runs))}" if runs else "none has been made here yet"
