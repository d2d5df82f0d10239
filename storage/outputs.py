"""One Parquet file a shard with its receipt: what the embed and caption stages write and read."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.commit import remove, replace, scratch
from storage.errors import SchemaError, ShardError
from storage.layout import Root, ShardName
from storage.parquet import encode, read
from storage.receipts import (
    FileFacts,
    Receipt,
    Recorded,
    commit_receipt,
    recorded,
    recorded_all,
    unchanged,
)
from storage.urls import folders, join, listing, read_bytes, stat


@dataclass(frozen=True, slots=True)
class Written:
    """Rows that lie in the store and count for nothing until a receipt names them."""

    rows: int
    failures: dict[str, int]
    files: tuple[FileFacts, ...]


@dataclass(frozen=True, slots=True)
class OutputStore:
    """Outputs of one stage and one configuration, under `folder/<batch>/`."""

    root: Root
    folder: str
    """URL: `ROOT/embeddings/<space>` or `ROOT/captions/<run>`."""
    stage: str
    fingerprint: str

    def commit(
        self,
        shard: ShardName,
        tables: Iterable[pa.Table],
        schema: pa.Schema,
        inputs: tuple[FileFacts, ...] | Callable[[], tuple[FileFacts, ...]],
        facts: Callable[[], dict[str, Any]] = dict,
    ) -> Receipt:
        """Write the shard's rows, then its receipt: the receipt commits.

        Nothing is visible if `tables` raises. `inputs` may be asked for once `tables` has ended,
        for what is hashed while it is read; `facts`, what the receipt says besides, are asked for
        then too. The data file is named by its content, so that a
        second attempt at the same work writes the same name and bytes.
        """

        def receipt(written: Written) -> Receipt:
            made_from = inputs() if callable(inputs) else inputs
            return Receipt(
                stage=self.stage,
                shard=str(shard),
                fingerprint=self.fingerprint,
                rows=written.rows,
                failures=written.failures,
                files=written.files,
                inputs=made_from,
                facts=facts(),
                generation=self._generation(shard, made_from, written),
            )

        return self.publish(shard, tables, schema, receipt)

    def publish(
        self,
        shard: ShardName,
        tables: Iterable[pa.Table],
        schema: pa.Schema,
        receipt_of: Callable[[Written], Receipt],
    ) -> Receipt:
        """Write the shard's rows under a name made of their content, then the receipt of them.

        Returns the receipt that stands. Rows that somebody swept away before a receipt named
        them are put back.
        """
        failures: dict[str, int] = {}
        with scratch() as place:
            made = encode(_counted(tables, failures), schema, place / "data.parquet")
            url = join(self.batch(shard.batch), f"{shard.stem}-{made.sha256[:16]}.parquet")
            replace(url, made.path)
            data = FileFacts(url=self.root.relative(url), size=made.size, sha256=made.sha256)
            receipt = receipt_of(Written(made.rows, dict(sorted(failures.items())), (data,)))
            standing = commit_receipt(self.batch(shard.batch), shard.stem, receipt)
            if standing.files == (data,) and stat(url) is None:
                replace(url, made.path)
        return standing

    def sweep(self) -> None:
        """Remove data that no receipt names: a reader may then take all files of a folder.

        Another writer may be about to name what it has just written. It looks once more when its
        receipt stands, and so do we when the file is gone: whoever looks last puts it back.
        """
        for batch in self.batches():
            names = [name for name in listing(self.batch(batch)) if name.endswith(".parquet")]
            named = {_data_name(record) for record in self.receipts(batch).values()}
            for name in sorted(set(names) - named):
                data = read_bytes(url := join(self.batch(batch), name))
                remove(url)
                found = recorded(self.batch(batch), name.rpartition("-")[0])
                if found and _data_name(found) == name:
                    replace(url, data)

    def read(self, shard: ShardName, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The committed rows of `shard`, a row group at a time; ShardError if it is not done."""
        yield from read(self.data_url(shard), columns)

    def data_url(self, shard: ShardName) -> str:
        """Where the committed rows of `shard` lie."""
        return self.root.absolute(self.receipt(shard).files[0].url)

    def receipt(self, shard: ShardName) -> Receipt:
        """The newest receipt of `shard`; ShardError if there is none of this configuration."""
        found = recorded(self.batch(shard.batch), shard.stem)
        if found is None or found.receipt.fingerprint != self.fingerprint:
            raise ShardError(f"shard {shard} has no {self.stage} output: run that stage first")
        return found.receipt

    def receipts(self, batch: str) -> dict[str, Recorded]:
        """The newest receipts of a batch that bear this configuration, by stem."""
        found = recorded_all(self.batch(batch))
        return {
            stem: record
            for stem, record in found.items()
            if record.receipt.fingerprint == self.fingerprint
        }

    def batches(self) -> list[str]:
        """Names of the batches that have outputs, in order."""
        return folders(self.folder)

    def batch(self, batch: str) -> str:
        """URL of the folder that holds one batch's outputs."""
        return join(self.folder, batch)

    def _generation(self, shard: ShardName, inputs: tuple[FileFacts, ...], written: Written) -> int:
        """0, or one more than a receipt that was made from other inputs, or names what is lost."""
        found = recorded(self.batch(shard.batch), shard.stem)
        if found is None:
            return 0
        standing = found.receipt
        same = (standing.inputs, standing.fingerprint) == (inputs, self.fingerprint)
        stands = standing.files == written.files or all(
            unchanged(facts, self.root.absolute(facts.url), found.changed)
            for facts in standing.files
        )
        return standing.generation + (0 if same and stands else 1)


def _data_name(record: Recorded) -> str:
    return record.receipt.files[0].url.rpartition("/")[2]


def _counted(tables: Iterable[pa.Table], failures: dict[str, int]) -> Iterator[pa.Table]:
    for table in tables:
        status, code = table["status"], table["error_code"]
        odd = pc.equal(pc.equal(status, "ok"), pc.not_equal(code, ""))
        if pc.any(odd).as_py():
            one = table.filter(odd).slice(0, 1)
            said, given = one["status"][0].as_py(), one["error_code"][0].as_py()
            raise SchemaError(f"status {said!r} does not go with error code {given!r}")
        for found in pc.value_counts(code.filter(pc.not_equal(code, ""))).to_pylist():
            failures[found["values"]] = failures.get(found["values"], 0) + found["counts"]
        yield table
