"""Verifies rows: counted, unique, finite, and the same pictures in the same order in each stage."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.embeddings import embedding_values
from storage.errors import SchemaError
from storage.receipts import Receipt
from storage.schema import ERROR_CODES

Value = TypeVar("Value")
_NUMBERS = ("caption_logprob", "clip_sim", "orig_clip_sim")


def expect(true: bool, otherwise: str) -> None:
    """SchemaError unless `true`."""
    if not true:
        raise SchemaError(otherwise)


def there(value: Value | None, otherwise: str) -> Value:
    """`value`; SchemaError if there is none."""
    if value is None:
        raise SchemaError(otherwise)
    return value


class RowTally:
    """Counts the rows of one shard, and proves that each is one picture in one state."""

    def __init__(self) -> None:
        self._keys: list[pa.Array] = []
        self._failures: Counter[str] = Counter()

    def take(self, table: pa.Table) -> None:
        """Some more rows, with `key`, `status` and `error_code`."""
        self._keys += table["key"].chunks
        pairs = zip(table["status"].to_pylist(), table["error_code"].to_pylist(), strict=True)
        for (status, code), count in Counter(pairs).items():
            fine = (status == "ok" and code == "") or (status == "error" and code in ERROR_CODES)
            expect(fine, f"a row has status {status!r} and error code {code!r}")
            if code:
                self._failures[code] += count

    def close(self, receipt: Receipt) -> None:
        """All rows were taken: are they those that the receipt counts?"""
        keys = pa.chunked_array(self._keys, pa.string())
        expect(
            len(keys) == receipt.rows, f"{len(keys)} rows, not the {receipt.rows} of the receipt"
        )
        expect(pc.count_distinct(keys).as_py() == len(keys), "a key stands twice")
        failed = dict(sorted(self._failures.items()))
        expect(failed == receipt.failures, f"failures {failed}, not {receipt.failures}")


def side_by_side(
    one: Iterable[pa.Table], other: Iterable[pa.Table]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Both in step; SchemaError unless they hold the same keys and hashes in the same order."""
    for before, after in zip_longest(one, other):
        same = before is not None and after is not None and before["key"].equals(after["key"])
        expect(same, "its pictures are not those of its shard, in that order")
        expect(before["sha256"].equals(after["sha256"]), "a sha256 is not the one of its shard")
        yield before, after


def check_handed_down(before: pa.Table, after: pa.Table) -> None:
    """A picture that failed before keeps its code."""
    failed = pc.not_equal(before["status"], "ok")
    was, now = before["error_code"].filter(failed), after["error_code"].filter(failed)
    expect(was.equals(now), "a picture that failed in its shard is not marked with that code")


def check_embeddings_finite(table: pa.Table) -> None:
    """A finite embedding on every row that counts as ok, none elsewhere."""
    fine = pc.equal(table["status"], "ok")
    expect(fine.equals(table["embedding"].is_valid()), "an ok row lacks its embedding, or reverse")
    image_NC = embedding_values(table)[np.asarray(fine)]
    expect(bool(np.isfinite(image_NC).all()), "an embedding holds values that are not finite")


def check_captions_sound(table: pa.Table, shard: str) -> None:
    """A caption on every row that counts as ok, none elsewhere, and finite numbers."""
    fine = pc.equal(table["status"], "ok")
    expect(fine.equals(table["caption"].is_valid()), "an ok row lacks its caption, or the reverse")
    expect(pc.all(pc.equal(table["shard"], shard)).as_py() is not False, "a row of another shard")
    for name in _NUMBERS:
        values = table[name].drop_null()
        expect(pc.all(pc.is_finite(values)).as_py() is not False, f"a {name} is not finite")
    candidates = pc.list_flatten(table["captions"]).combine_chunks()
    for name in ("logprob", "clip_sim"):
        values = pc.struct_field(candidates, name).drop_null()
        expect(pc.all(pc.is_finite(values)).as_py() is not False, f"a candidate's {name} is odd")
