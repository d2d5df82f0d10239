"""A run as a few large Parquet files for a hub, each at most so many bytes, and a dataset card."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.export_place import ExportPlace
from storage.export_rows import Selection
from storage.quantiles import Spool
from storage.sampling import Smallest, mark_of
from storage.schema import CAPTIONS, ROW_GROUP, with_facts

SAMPLES = 20
NUMBERS = ("clip_sim", "caption_logprob", "n_tokens")
MARGIN = 1 << 16
"""Bytes left free for a file's footer, for each row group one hundredth of it."""


@dataclass(slots=True)
class Seen:
    """What the exported rows are like."""

    spools: dict[str, Spool]
    rows: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    samples: Smallest[dict[str, Any]] = field(default_factory=lambda: Smallest(SAMPLES))
    parts: list[dict[str, Any]] = field(default_factory=list)
    """Name, rows and bytes of each file."""

    def count(self, table: pa.Table) -> None:
        """Take in some rows."""
        self.rows += table.num_rows
        self.failures.update(code for code in table["error_code"].to_pylist() if code)
        for name, spool in self.spools.items():
            spool.add(pc.drop_null(table[name]).cast(pa.float32()).to_numpy())
        shown = table.select(["shard", "key", "path", "caption", "clip_sim"]).to_pylist()
        for row in shown:
            if row["caption"] is not None:
                self.samples.add(mark_of(row["shard"], row["key"]), row)


class Parts:
    """Files `data/train-00000.parquet`, … of at most `limit` bytes."""

    def __init__(
        self, place: ExportPlace, folder: Path, limit: int, facts: dict[str, str], seen: Seen
    ) -> None:
        self._place = place
        self._path = folder / "part.parquet"
        self._limit = limit
        self._schema = with_facts(CAPTIONS, facts)
        self._seen = seen
        self._file: Any = None
        self._writer: pq.ParquetWriter | None = None
        self._groups = 0
        self._rows = 0

    def write(self, selection: Selection, tell: Callable[[int], object]) -> None:
        """Write every chosen row."""
        held: list[pa.Table] = []
        for batch, _ in selection.batches(CAPTIONS.names):
            table = pa.Table.from_batches([batch])
            self._seen.count(table)
            held.append(table)
            tell(table.num_rows)
            while sum(part.num_rows for part in held) >= ROW_GROUP:
                whole = pa.concat_tables(held)
                self._group(whole.slice(0, ROW_GROUP))
                held = [whole.slice(ROW_GROUP)]
        left = pa.concat_tables(held) if held else CAPTIONS.empty_table()
        if left.num_rows or not self._seen.rows:  # a dataset without rows still has its columns
            self._group(left)
        self._close()

    def _group(self, table: pa.Table) -> None:
        """Add a row group, to the next file if it might not fit, in halves if to none."""
        table = table.combine_chunks()
        room = self._limit - MARGIN - (self._groups * MARGIN) // 100
        if table.nbytes > room and table.num_rows > 1:
            half = table.num_rows // 2
            self._group(table.slice(0, half))
            self._group(table.slice(half))
            return
        if self._writer is not None and self._file.tell() + table.nbytes > room:
            self._close()
        writer = self._writer or self._begin()
        writer.write_table(table.cast(self._schema), row_group_size=ROW_GROUP)
        self._groups += 1
        self._rows += table.num_rows

    def _begin(self) -> pq.ParquetWriter:
        self._file = self._path.open("wb")
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            compression="zstd",
            write_page_index=True,
            write_page_checksum=True,
            use_content_defined_chunking=True,
        )
        return self._writer

    def _close(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._file.close()
        name = f"data/train-{len(self._seen.parts):05}.parquet"
        size = self._path.stat().st_size
        self._seen.parts.append({"name": name, "rows": self._rows, "bytes": size})
        self._place.put(name, self._path)
        self._path.unlink()
        self._writer, self._groups, self._rows = None, 0, 0


def new_seen(folder: Path) -> Seen:
    """Nothing seen yet; `folder` holds what is spooled."""
    return Seen({name: Spool(folder / f"{name}.spool") for name in NUMBERS})


def quantiles(seen: Seen) -> dict[str, dict[str, float]]:
    """Of each number that any row has."""
    found = {name: spool.quantiles() for name, spool in seen.spools.items()}
    return {
        name: {point: float(np.float32(value)) for point, value in values.items()}
        for name, values in found.items()
        if values
    }
