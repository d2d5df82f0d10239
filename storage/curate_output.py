"""What a curation leaves: ids of the rows kept, every row's fate, and the waterfall."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.commit import replace
from storage.errors import ConfigurationError
from storage.fingerprint import sha256_file
from storage.schema import ROW_GROUP, with_facts
from storage.urls import folders, join, listing, redact

if TYPE_CHECKING:
    from storage.curate import Curation

_ID = [
    pa.field("shard", pa.string(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("sha256", pa.string()),
]
IDS = pa.schema(_ID)
"""The rows kept, by shard and key."""
ROWS = pa.schema(
    [
        *_ID,
        pa.field("keep", pa.bool_(), nullable=False),
        pa.field("drop_reason", pa.string(), nullable=False),
    ]
)
"""Every row: kept, or the first rule that it failed (empty if kept)."""

FILES = ("ids.parquet", "rows.parquet", "waterfall.json")


def write_curation(
    database: duckdb.DuckDBPyConnection,
    passes: dict[str, str],
    done: "Curation",
    home: str,
    folder: Path,
) -> tuple[str, ...]:
    """Write the three files into `home`, waterfall.json last; their URLs."""
    check_home(home, FILES)
    reasons = " ".join(f"when not ({condition}) then ?" for condition in passes.values())
    reason = f"case {reasons} else '' end" if passes else "''"
    query = f"select shard, key, sha256, {reason} as drop_reason from measured order by shard, key"
    found = database.execute(query, list(passes))
    facts = {"recipe": done.recipe.name, "run": done.run, "fingerprint": done.fingerprint}
    with (
        parquet_writer(folder / FILES[0], with_facts(IDS, facts)) as ids,
        parquet_writer(folder / FILES[1], with_facts(ROWS, facts)) as rows,
    ):
        kept: list[pa.Table] = []
        for table in groups_of_rows(found.to_arrow_reader(ROW_GROUP)):
            keep = pc.equal(table["drop_reason"], "")
            rows.write_table(table.append_column("keep", keep).select(ROWS.names).cast(rows.schema))
            kept = _flush(ids, [*kept, table.filter(keep).select(IDS.names)], ROW_GROUP)
        _flush(ids, kept, 1)
    hashes = {name: sha256_file(folder / name) for name in FILES[:2]}
    report = json.dumps(waterfall_facts(done) | {"files": hashes}, indent=1, ensure_ascii=False)
    for name in FILES[:2]:
        replace(join(home, name), folder / name)
    replace(join(home, FILES[2]), f"{report}\n".encode())
    return tuple(join(home, name) for name in FILES)


def waterfall_facts(done: "Curation") -> dict[str, Any]:
    """What waterfall.json says, but for the files' hashes; no clock is in it."""
    return {
        **done.recipe.facts(),
        "source": done.recipe.source,
        "deviations": list(done.recipe.deviations),
        "run": done.run,
        "fingerprint": done.fingerprint,
        "rows": done.rows,
        "kept": done.kept,
        "waterfall": [fall.facts() for fall in done.waterfall],
    }


def check_home(home: str, files: tuple[str, ...]) -> None:
    """ConfigurationError if the folder holds anything but an earlier outcome."""
    there = [name for name in [*listing(home), *folders(home)] if not name.startswith(".")]
    strangers = sorted(set(there) - set(files))
    if strangers:
        raise ConfigurationError(
            f"{redact(home)!r} holds something else ({strangers[0]!r}): give an empty or new folder"
        )


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A local file in the house's form, to be given whole row groups."""
    return pq.ParquetWriter(
        path, schema, compression="zstd", write_page_index=True, write_page_checksum=True
    )


def groups_of_rows(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """The rows in tables of 10,000, however they come: the bytes must not depend on it."""
    held: list[pa.RecordBatch] = []
    for batch in reader:
        held.append(batch)
        while sum(map(len, held)) >= ROW_GROUP:
            whole = pa.Table.from_batches(held)
            yield whole.slice(0, ROW_GROUP).combine_chunks()
            held = whole.slice(ROW_GROUP).to_batches()
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def _flush(writer: pq.ParquetWriter, held: list[pa.Table], least: int) -> list[pa.Table]:
    """Write whole row groups of what is held (all of it if `least` is 1); what remains."""
    whole = pa.concat_tables(held) if held else None
    while whole is not None and whole.num_rows >= least:
        group = whole.slice(0, ROW_GROUP).combine_chunks()
        writer.write_table(group.cast(writer.schema), row_group_size=ROW_GROUP)
        whole = whole.slice(group.num_rows)
    return [whole] if whole is not None and whole.num_rows else []
