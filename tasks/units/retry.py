"""Work on one shard once more, because pictures in it failed for a reason that may be gone."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

import pyarrow as pa

from storage.edit_rows import REJECTED
from storage.embeddings import embedding_store
from storage.parquet import rows_to_table
from storage.receipts import Receipt
from storage.retrying import commit_attempt
from storage.schema import CAPTIONS
from tasks.units.caption import CaptionWork
from tasks.units.embed import EmbedWork
from tasks.units.jobs import CaptionJob, EmbedJob


def retry_shard(job: EmbedJob) -> Receipt:
    """The receipt of the next generation, in which every picture was tried again.

    The whole shard is embedded, so that what succeeds has the bits of a first success.
    """
    work = EmbedWork.of(job)
    store = embedding_store(work.root, work.settled)
    return commit_attempt(store, work.shard, work.rows(work.samples()), work.schema)


def recaption_shard(job: CaptionJob) -> Receipt:
    """The receipt of the next generation, in which failed captions were written again.

    All pictures are captioned, as the first time; rows that had a caption, or were edited, stay.
    """
    work = CaptionWork.of(job)
    tables = _mended(work.store.read(work.shard), work.tables())
    return commit_attempt(work.store, work.shard, tables, work.schema, work.writer.tally.facts)


def _mended(standing: Iterable[pa.Table], again: Iterable[pa.Table]) -> Iterator[pa.Table]:
    fresh = chain.from_iterable(table.to_pylist() for table in again)
    for table in standing:
        pairs = zip(table.to_pylist(), islice(fresh, len(table)), strict=True)
        rows = [old if _stays(old) else new for old, new in pairs]
        yield rows_to_table(rows, CAPTIONS)


def _stays(row: dict[str, object]) -> bool:
    return row["status"] == "ok" or row["error_code"] == REJECTED
