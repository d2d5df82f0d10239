"""A later version of one shard's output: the same work, its rows changed afterwards.

Applied edits and pictures tried once more make generations. The receipt names the same inputs and
fingerprint as the one it supersedes, so that no stage takes the shard for stale, and says in
`facts["supersedes"]` which receipt that was.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from storage.errors import CommitConflict, ShardError
from storage.layout import ShardName
from storage.outputs import OutputStore, Written
from storage.parquet import read_schema
from storage.receipts import Receipt, recorded

Change = Callable[[Receipt], Iterable[pa.Table]]
"""The rows of the next generation, made from the receipt of the one that stands."""
TRIES = 5


def supersede(
    store: OutputStore,
    shard: ShardName,
    change: Change,
    facts: Callable[[], Mapping[str, Any]] = dict,
) -> Receipt:
    """Commit what `change` makes of the newest generation; the receipt that stands then.

    Nothing is written where `change` gives the same bytes. Whoever commits a generation between
    our look and our commit is not overruled: `change` is asked again, on top of theirs. `facts`,
    asked for after the rows, go into the receipt beside those that stand.
    """
    offered: list[Receipt] = []
    for _ in range(TRIES):
        standing = _standing(store, shard)

        def after(made: Written, standing: Receipt = standing) -> Receipt:
            newer = replace(
                standing,
                failures=made.failures,
                files=made.files,
                rows=made.rows,
                facts={**standing.facts, **facts(), "supersedes": standing.digest},
                generation=standing.generation + 1,
            )
            offered.append(standing if made.files == standing.files else newer)
            return offered[-1]

        schema = read_schema(_url(store, standing))
        receipt = store.publish(shard, change(standing), schema, after)
        if receipt == offered[-1]:
            return receipt
    raise CommitConflict(f"shard {shard} is being changed by others all the time: run again")


def _standing(store: OutputStore, shard: ShardName) -> Receipt:
    found = recorded(store.batch(shard.batch), shard.stem)
    if found is None or found.receipt.fingerprint != store.fingerprint:
        raise ShardError(f"shard {shard} has no {store.stage} output: run that stage first")
    return found.receipt


def _url(store: OutputStore, receipt: Receipt) -> str:
    return store.root.absolute(receipt.files[0].url)
