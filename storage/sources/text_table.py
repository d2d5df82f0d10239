"""Tables as text, turned into Parquet row by row: nothing dropped, nothing guessed about values.

What separates, and whether there is a header, is told by the first line. Commas and semicolons go
with quotes; between tabs or bars a quote is only a sign, as captions in the wild leave them open.
"""

import csv
import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from storage.sources.tree import PICTURES, ending

BATCH = 10_000
"""Rows held at a time."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a table is written."""

    separator: str
    header: bool

    @property
    def quoted(self) -> bool:
        """Whether quotes hold a field together."""
        return self.separator in ",;"


def open_text(path: Path) -> IO[str]:
    """A text file, packed by gzip or not; UnicodeDecodeError when it proves not to be UTF-8."""
    unpacked = gzip.open if path.suffix == ".gz" else open
    return unpacked(path, "rt", encoding="utf-8-sig", newline="")


def to_parquet(path: Path, target: Path) -> Dialect:
    """Write the table at `path` to `target`, all columns as text, missing fields as null.

    csv.Error names the line of a row with too many fields or a quote out of place.
    """
    with open_text(path) as file:
        dialect = _dialect(_first(file), tabs=".tsv" in path.suffixes)
        file.seek(0)
        rows = _rows(file, dialect)
        line, fields = next(rows)
        names = _distinct(fields) if dialect.header else [f"column{n}" for n in range(len(fields))]
        if not dialect.header:
            rows = chain([(line, fields)], rows)
        schema = pa.schema([(name, pa.string()) for name in names])
        with pq.ParquetWriter(target, schema) as writer:
            whole = _padded(rows, len(names))
            while batch := list(islice(whole, BATCH)):
                columns = [pa.array(values, pa.string()) for values in zip(*batch, strict=True)]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return dialect


def _first(file: IO[str]) -> str:
    for line in file:
        if line.strip():
            return line
    raise csv.Error("it has no line that is not blank")


def _dialect(first: str, *, tabs: bool) -> Dialect:
    separator = "\t" if tabs or "\t" in first else max(",|;", key=first.count)
    fields = next(csv.reader([first], delimiter=separator), [])
    pictures = [ending(field.strip().partition("#")[0]) in PICTURES for field in fields]
    return Dialect(separator, header=not any(pictures))


def _rows(lines: Iterable[str], dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each row that is not blank."""
    reader = csv.reader(
        lines,
        delimiter=dialect.separator,
        quoting=csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE,
        strict=True,
    )
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num}: {error}") from error


def _padded(rows: Iterator[tuple[int, list[str]]], width: int) -> Iterator[list[str | None]]:
    for line, row in rows:
        if len(row) > width:
            raise csv.Error(f"line {line} has {len(row)} fields, its header {width}")
        yield [*row, *[None] * (width - len(row))]


def _distinct(names: list[str]) -> list[str]:
    """`names` with numbers where they are empty or stand twice (case aside, as in SQL)."""
    found: list[str] = []
    for number, name in enumerate(part.strip() for part in names):
        taken = not name or name.lower() in (other.lower() for other in found)
        found.append(f"{name}_{number}" if taken else name)
    return found
