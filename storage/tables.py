"""DuckDB as the commands on tables use it: bounded memory, a scratch folder, no network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from storage.errors import ConfigurationError

MEMORY = "1GB"
"""What DuckDB may hold; beyond it, it writes to scratch."""


@contextmanager
def connect(
    folder: Path, threads: int, memory: str = MEMORY
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of its own in `folder`."""
    config: dict[str, Any] = {
        "threads": threads,
        "memory_limit": memory,
        "temp_directory": str(folder / "spill"),
        "autoinstall_known_extensions": False,
        "preserve_insertion_order": False,
    }
    with duckdb.connect(str(folder / "tables.duckdb"), config=config) as database:
        database.execute("set enable_progress_bar = false")
        try:
            yield database
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise ConfigurationError(
                f"no room for what does not fit in {memory} of memory: free some space for "
                "temporary files, or name another folder in TMPDIR"
            ) from error


def one(database: duckdb.DuckDBPyConnection, query: str, values: Any = None) -> tuple[Any, ...]:
    """The first row, empty if there is none."""
    return tuple(database.execute(query, values).fetchone() or ())
