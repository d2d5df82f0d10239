"""What a search for duplicates leaves: the rows concerned, and counts."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from storage.commit import replace
from storage.curate_output import check_home, groups_of_rows, parquet_writer
from storage.fingerprint import sha256_file
from storage.schema import with_facts
from storage.urls import join

DUPLICATES = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("dup_group", pa.string()),
        pa.field("dup_rank", pa.int32()),
        pa.field("dup_sim", pa.float32()),
        pa.field("dup_against", pa.string()),
    ]
)
"""Rows that have a duplicate or match the held-out set, by shard and key."""
FILES = ("duplicates.parquet", "duplicates.json")


def write_duplicates(
    database: duckdb.DuckDBPyConnection,
    table: str,
    facts: dict[str, Any],
    home: str,
    folder: Path,
) -> tuple[str, ...]:
    """Write both files into `home`; their URLs."""
    check_home(home, FILES)
    names = ", ".join(DUPLICATES.names)
    found = database.execute(f"select {names} from {table} order by shard, key")
    schema = with_facts(DUPLICATES, {"among": facts["among"]})
    with parquet_writer(folder / FILES[0], schema) as writer:
        for group in groups_of_rows(found.to_arrow_reader(10_000)):
            writer.write_table(group.cast(schema))
    facts = {**facts, "files": {FILES[0]: sha256_file(folder / FILES[0])}}
    replace(join(home, FILES[0]), folder / FILES[0])
    replace(join(home, FILES[1]), f"{json.dumps(facts, indent=1, ensure_ascii=False)}\n".encode())
    return tuple(join(home, name) for name in FILES)
