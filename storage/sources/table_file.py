"""A table file opened in DuckDB, every column as text or JSON, nothing guessed about its values."""

# ruff: noqa: S608 (names of columns are quoted, values are parameters or escaped)

import csv
import gzip
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from storage.commit import scratch
from storage.errors import ConfigurationError
from storage.sources.text_table import open_text, to_parquet
from storage.sources.tree import Tree
from storage.urls import open_read

_TEXT = (".csv", ".tsv", ".txt", ".token")
_JSON = (".jsonl", ".ndjson")
TABLE_ENDINGS = (*_TEXT, *_JSON, *(kind + ".gz" for kind in (*_TEXT, *_JSON)), ".parquet")
_LIMITS = "SET memory_limit='1GB'; SET threads=2; SET autoinstall_known_extensions=false"


@dataclass(frozen=True, slots=True)
class Table:
    """An open table: `relation` stands after FROM, in the rows' own order."""

    connection: duckdb.DuckDBPyConnection
    relation: str
    columns: tuple[str, ...]
    quoted: bool
    """Whether the reader undoes quotes; if not, they may be part of a text or around it."""

    @property
    def named(self) -> bool:
        """Whether the columns have names of their own."""
        return self.columns[0] != "column0"


@contextmanager
def open_table(url: str) -> Iterator[Table]:
    """The table at `url`; what DuckDB cannot read of it is a ConfigurationError with its line."""
    shown = Tree(url).shown("")
    with scratch() as folder, duckdb.connect() as connection:
        path = _local(url, folder)
        try:
            connection.execute(f"SET temp_directory='{folder}'; {_LIMITS}")
            yield _opened(connection, path)
        except duckdb.Error as error:
            why = _broken_json(path) or _brief(error)
            raise ConfigurationError(f"table {shown!r} cannot be read: {why}") from error
        except (UnicodeDecodeError, csv.Error, gzip.BadGzipFile, EOFError) as error:
            raise ConfigurationError(f"table {shown!r} cannot be read: {error}") from error


def quote(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _local(url: str, folder: Path) -> Path:
    """The table under a name without signs that DuckDB would expand."""
    kind = next(end for end in TABLE_ENDINGS if url.lower().endswith(end))
    path = folder / f"table{kind}"
    if Tree(url).local:
        path.symlink_to(Tree(url).full(""))
        return path
    with open_read(url) as source, path.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    return path


def _opened(connection: duckdb.DuckDBPyConnection, path: Path) -> Table:
    name = _literal(str(path))
    quoted = True
    if path.suffix == ".parquet":
        relation = f"read_parquet({name})"
    elif path.name.removesuffix(".gz").endswith(_JSON):
        relation = f"read_json({name}, format='newline_delimited', maximum_depth=1, sample_size=-1)"
    else:
        table = path.with_name("text.parquet")
        quoted = to_parquet(path, table).quoted
        relation = f"read_parquet({_literal(str(table))})"
    described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    return Table(connection, relation, tuple(str(row[0]) for row in described), quoted)


def _broken_json(path: Path) -> str:
    """Which line is no JSON, as DuckDB counts lines in its own way; empty for other tables."""
    if not path.name.removesuffix(".gz").endswith(_JSON):
        return ""
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            try:
                json.loads(line or "null")
            except ValueError as error:
                if line.strip():
                    return f"line {number} is no JSON ({error})"
    return ""


def _brief(error: duckdb.Error) -> str:
    """What is wrong and where, without DuckDB's advice on options nobody here can set."""
    lines = str(error).partition("\n\n")[0].partition("Possible ")[0].splitlines()
    return " ".join(line.strip() for line in lines if "LINE 1" not in line)[:400]
