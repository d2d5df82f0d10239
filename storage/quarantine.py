"""`quarantine/<run>.parquet`: what failed in a run, where, why, and how often it was tried."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from storage.captions import caption_store, caption_tables
from storage.commit import replace, scratch
from storage.embeddings import embedding_store
from storage.layout import Root, ShardName
from storage.parquet import encode
from storage.reading import is_stored, run_space
from storage.receipts import Recorded
from storage.retrying import attempts_of
from storage.settled import Settled
from storage.urls import join

_READ = ["shard", "key", "path", "url", "sha256", "error_code", "error_detail", "status"]
QUARANTINE = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("key_in_shard", pa.string(), nullable=False),
        *(pa.field(name, pa.string()) for name in _READ[2:7]),
        pa.field("attempts", pa.int32(), nullable=False),
    ]
)
"""One row a failed picture; (shard, key_in_shard) joins it to the run's rows."""


def write_quarantine(root: Root, settled: Settled) -> str:
    """Write the failed rows of a run, derived from its captions; the URL they lie at."""
    url = join(root.url, "quarantine", f"{settled.name}.parquet")
    with scratch() as place:
        made = encode(_failed(root, settled), QUARANTINE, place / "data.parquet")
        replace(url, made.path)
    return url


def _failed(root: Root, settled: Settled) -> Iterator[pa.Table]:
    space = run_space(root, settled)
    store = embedding_store(root, space) if space and not is_stored(space) else None
    known: dict[str, dict[str, Recorded]] = {}

    def attempts(shard: str) -> int:
        name = ShardName.parse(shard)
        if store and name.batch not in known:
            known[name.batch] = store.receipts(name.batch)
        record = known.get(name.batch, {}).get(name.stem)
        return attempts_of(record.receipt) if record else 1

    for table in caption_tables(caption_store(root, settled), _READ):
        failed = table.filter(pc.not_equal(table["status"], "ok")).drop_columns(["status"])
        tried = [attempts(shard) for shard in failed["shard"].to_pylist()]
        column = pa.array(tried, pa.int32())
        yield failed.append_column("attempts", column).rename_columns(QUARANTINE.names)
