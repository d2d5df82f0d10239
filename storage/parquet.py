"""Rows to a checked Parquet file in local scratch, and back, a row group at a time."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.errors import SchemaError, ShardError
from storage.fingerprint import sha256_file
from storage.schema import ROW_GROUP
from storage.urls import open_read, read_bytes, redact, stat

SMALL = 1 << 20
"""Files up to this many bytes are read whole: years of nightly plans then need few open files."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A finished file that nobody can see yet."""

    path: Path
    rows: int
    size: int
    sha256: str


def encode(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> Encoded:
    """Write `tables` (any sizes) to `path` in row groups of 10,000, then reopen and check it.

    The bytes depend on rows, schema and library versions alone. Raises SchemaError if what is
    read back is not what was given, or a key stands twice.
    """
    given = _Given(tables, schema)
    with pq.ParquetWriter(
        path, schema, compression="zstd", write_page_index=True, write_page_checksum=True
    ) as writer:
        for group in _regroup(given):
            with fitting():
                writer.write_table(group, row_group_size=ROW_GROUP)
    _check(path, schema, given.rows)
    return Encoded(path, given.rows, path.stat().st_size, sha256_file(path))


def rows_to_table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """`rows` as a table of exactly `schema`; a missing or extra column is a SchemaError."""
    names = set(schema.names)
    lists = [column.name for column in schema if pa.types.is_nested(column.type)]
    for row in rows:
        if row.keys() != names:
            raise SchemaError(
                f"row {row.get('key')!r}: columns {sorted(row.keys() ^ names)} differ"
            )
        if any(isinstance(row[name], str) for name in lists):  # Arrow would take its letters
            raise SchemaError(
                f"row {row.get('key')!r}: rows do not fit their schema: text, no list"
            )
    with fitting():
        return pa.Table.from_pylist(list(rows), schema=schema)


def read(url: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The file's row groups in order, page checksums verified; ShardError if it is damaged."""
    with opened(url) as parquet:
        for number in range(parquet.num_row_groups):
            with damage(url):
                group = read_group(parquet, number, columns)
            yield group


def read_batches(url: str, columns: list[str]) -> Iterator[pa.Table]:
    """`columns` in slices of 10,000 rows: foreign files may hold a million in one row group."""
    with opened(url) as parquet:
        batches = parquet.iter_batches(ROW_GROUP, columns=columns, use_threads=False)
        while True:
            with damage(url):
                batch = next(batches, None)
            if batch is None:
                return
            yield pa.Table.from_batches([batch])


def read_group(parquet: pq.ParquetFile, number: int, columns: list[str] | None = None) -> pa.Table:
    """One row group, decoded in this thread (Arrow's threads: see `opened`)."""
    return parquet.read_row_group(number, columns=columns, use_threads=False)


def row_count(url: str) -> int:
    """How many rows the footer promises."""
    with opened(url) as parquet:
        return int(parquet.metadata.num_rows)


def read_schema(url: str) -> pa.Schema:
    """The schema with its metadata, without reading a row."""
    with opened(url) as parquet:
        return parquet.schema_arrow


@contextmanager
def opened(url: str) -> Iterator[pq.ParquetFile]:
    """The file at `url`, its page checksums verified; ShardError if it is missing or damaged.

    A small file is read whole, in one read of the store, and need not stay open.

    Read without Arrow's threads, for columns (`use_threads`) and ahead (`pre_buffer`): one may let
    go of Python's bytes after its answer is there, and if the interpreter ends meanwhile, Arrow 26
    aborts the process; 7 % of `verify`s on a busy machine ended with -6 after all their work. Of a
    row group of embeddings the threads saved nothing, of captions 1 ms.
    """
    facts = stat(url)
    if facts is None:
        raise ShardError(f"{redact(url)!r} is missing")
    try:
        with _file(url, facts.size) as file:
            with damage(url):
                parquet = pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False)
                _agree(parquet.metadata)
            with parquet:
                yield parquet
    except FileNotFoundError as error:
        raise ShardError(f"{redact(url)!r} is missing") from error


@contextmanager
def _file(url: str, size: int) -> Iterator[pa.NativeFile | IO[bytes]]:
    if size <= SMALL:
        yield pa.BufferReader(read_bytes(url))
        return
    with open_read(url) as file:
        yield file


def _agree(footer: pq.FileMetaData) -> None:
    """The footer bears no checksum, but tells the rows twice."""
    if sum(footer.row_group(n).num_rows for n in range(footer.num_row_groups)) != footer.num_rows:
        raise pa.ArrowInvalid("its row groups have not the rows that it promises")


@contextmanager
def damage(url: str) -> Iterator[None]:
    """Tell a damaged file (pyarrow's own OSError bears no errno) from a store that failed."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ShardError(f"{redact(url)!r} is not a whole Parquet file: {error}") from error
    except OSError as error:
        if error.errno is not None or type(error) is not OSError:
            raise
        raise ShardError(f"{redact(url)!r} is damaged: {error}") from error


@contextmanager
def fitting() -> Iterator[None]:
    """Tell rows that are not what their schema says."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, OverflowError) as error:
        raise SchemaError(f"rows do not fit their schema: {error}") from error


class _Given:
    """The tables as they come in, cast and counted: what was written is judged by this count."""

    def __init__(self, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        self.tables = tables
        self.schema = schema
        self.rows = 0

    def __iter__(self) -> Iterator[pa.Table]:
        for table in self.tables:
            self.rows += table.num_rows
            with fitting():
                cast = table.cast(self.schema)
            yield cast


def _regroup(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        while count >= ROW_GROUP:
            whole = pa.concat_tables(held)
            yield whole.slice(0, ROW_GROUP).combine_chunks()
            held = [whole.slice(ROW_GROUP)]
            count -= ROW_GROUP
    if count:
        yield pa.concat_tables(held).combine_chunks()


def _check(path: Path, schema: pa.Schema, rows: int) -> None:
    with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
        if parquet.metadata.num_rows != rows:
            raise SchemaError(f"{rows} rows were written, {parquet.metadata.num_rows} read back")
        if not parquet.schema_arrow.equals(schema, check_metadata=False):
            raise SchemaError("the schema read back is not the one written")
        if "key" in schema.names:
            keys = parquet.read(columns=["key"])["key"]
            if pc.count_distinct(keys).as_py() != rows:
                raise SchemaError(f"keys are not unique among {rows} rows")
