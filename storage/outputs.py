"""One Parquet file a shard with its receipt: what the embed and caption stages write and read."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from storage.commit import replace, scratch
from storage.errors import SchemaError, ShardError
from storage.layout import Root, ShardName
from storage.parquet import encode, read
from storage.receipts import FileFacts, Receipt, Recorded, commit_receipt, recorded, recorded_all
from storage.urls import folders, join


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
    ) -> Receipt:
        """Write the shard's rows, then its receipt: the receipt commits.

        Nothing is visible if `tables` raises. `inputs` may be asked for once `tables` has ended,
        for what is hashed while it is read. The data file is named by its content, so that a
        second attempt at the same work writes the same name and bytes.
        """
        failures: dict[str, int] = {}
        folder = self.batch(shard.batch)
        with scratch() as place:
            made = encode(_counted(tables, failures), schema, place / "data.parquet")
            name = f"{shard.stem}-{made.sha256[:16]}.parquet"
            inputs = inputs() if callable(inputs) else inputs
            replace(join(folder, name), made.path)
        data = FileFacts(
            url=self.root.relative(join(folder, name)), size=made.size, sha256=made.sha256
        )
        receipt = Receipt(
            stage=self.stage,
            shard=str(shard),
            fingerprint=self.fingerprint,
            rows=made.rows,
            failures=dict(sorted(failures.items())),
            files=(data,),
            inputs=inputs,
            generation=self._generation(shard, inputs),
        )
        return commit_receipt(folder, shard.stem, receipt)

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

    def _generation(self, shard: ShardName, inputs: tuple[FileFacts, ...]) -> int:
        """0, or one more than the receipt of the same shard made from other inputs."""
        found = recorded(self.batch(shard.batch), shard.stem)
        if found is None:
            return 0
        same = (found.receipt.inputs, found.receipt.fingerprint) == (inputs, self.fingerprint)
        return found.receipt.generation + (0 if same else 1)


def _counted(tables: Iterable[pa.Table], failures: dict[str, int]) -> Iterator[pa.Table]:
    for table in tables:
        pairs = zip(table["status"].to_pylist(), table["error_code"].to_pylist(), strict=True)
        for status, code in pairs:
            if (status == "ok") == bool(code):
                raise SchemaError(f"status {status!r} does not go with error code {code!r}")
            if code:
                failures[code] = failures.get(code, 0) + 1
        yield table
