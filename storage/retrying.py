"""Which shards hold pictures that may do better another time, and the generation that says so.

A retry is a new generation of the shard's embeddings, which counts its attempts; where nothing
came out better it names the same file, so that no later stage is made again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from storage.errors import ConfigurationError
from storage.layout import ShardName
from storage.outputs import OutputStore, Written
from storage.receipts import Receipt, commit_receipt
from storage.schema import ERROR_CODES

PASSING = ("timeout", "worker_killed", "out_of_memory", "model_error")
"""Codes whose cause may be gone another time."""
ATTEMPTS = "attempts"
"""In a receipt's facts: how often its shard was tried, the first time included."""


@dataclass(frozen=True, slots=True)
class Retry:
    """One shard worth another attempt."""

    shard: ShardName
    pictures: int
    """That failed with one of the codes asked for."""
    below: Mapping[str, int]
    """How many failed with each code in the stage before, and are not among these."""


def parse_codes(text: str) -> tuple[str, ...]:
    """Error codes from `a,b`; ConfigurationError for one that nothing bears."""
    codes = tuple(code for part in text.split(",") if (code := part.strip()))
    for code in codes:
        if code not in ERROR_CODES:
            raise ConfigurationError(
                f"--code {code!r} is no error code: give some of {', '.join(ERROR_CODES)}"
            )
    return codes or PASSING


def attempts_of(receipt: Receipt) -> int:
    """How often the shard of `receipt` was tried."""
    return int(receipt.facts.get(ATTEMPTS, 1))


Below = Mapping[ShardName, Mapping[str, int]]
"""Failures that the stage before handed down, by shard and code: no retry here mends them."""


def to_retry(
    store: OutputStore,
    codes: Iterable[str],
    max_attempts: int,
    below: Below = MappingProxyType({}),
) -> Iterator[Retry]:
    """Shards with pictures that failed with one of `codes` and were not tried too often."""
    for batch in store.batches():
        for stem, record in sorted(store.receipts(batch).items()):
            shard = ShardName(batch, stem)
            handed = below.get(shard, {})
            failed = failed_here(record.receipt.failures, codes, handed)
            if failed and attempts_of(record.receipt) < max_attempts:
                yield Retry(shard, failed, handed)


def failed_here(failures: Mapping[str, int], codes: Iterable[str], below: Mapping[str, int]) -> int:
    """Pictures that failed with one of `codes`, those of the stage before left out."""
    return sum(max(0, failures.get(code, 0) - below.get(code, 0)) for code in codes)


def failures_of(store: OutputStore) -> Below:
    """Failures of every shard, by code."""
    return {
        ShardName(batch, stem): record.receipt.failures
        for batch in store.batches()
        for stem, record in store.receipts(batch).items()
    }


def commit_attempt(
    store: OutputStore,
    shard: ShardName,
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    facts: Callable[[], Mapping[str, Any]] = dict,
) -> Receipt:
    """Make `tables` the next generation of `shard`: the same work, tried once more.

    `facts`, asked for after the rows, take the place of those that the receipt bore.
    """
    standing = store.receipt(shard)

    def receipt(made: Written) -> Receipt:
        changes = {"rows": made.rows, "failures": made.failures, "files": made.files}
        return _next(standing, facts(), **changes)

    return store.publish(shard, tables, schema, receipt)


def record_attempt(store: OutputStore, shard: ShardName) -> Receipt:
    """Count an attempt of which nothing came."""
    return commit_receipt(store.batch(shard.batch), shard.stem, _next(store.receipt(shard), {}))


def _next(standing: Receipt, told: Mapping[str, Any], **changes: Any) -> Receipt:
    facts = {
        **standing.facts,
        **told,
        ATTEMPTS: attempts_of(standing) + 1,
        "supersedes": standing.digest,
    }
    return replace(standing, facts=facts, generation=standing.generation + 1, **changes)
