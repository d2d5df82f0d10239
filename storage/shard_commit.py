"""How a shard becomes visible: its files under plain names, then its receipt, and nothing after.

Files of a shard that has an intact receipt are never touched. If they were lost or damaged, equal
bytes are put back; other bytes (the source changed) come with a receipt of the next generation.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from storage import commit
from storage.cutting import IndexFile
from storage.errors import CommitConflict
from storage.fingerprint import sha256_file
from storage.layout import Root, ShardName
from storage.made import intact
from storage.receipts import FileFacts, Receipt, commit_receipt, recorded
from storage.urls import join

STAGE = "shard"


@dataclass(frozen=True, slots=True)
class ShardCommit:
    """The place of one shard."""

    root: Root
    shard: ShardName
    fingerprint: str

    @property
    def folder(self) -> str:
        """URL of the batch's folder."""
        return self.root.shards(self.shard.batch)

    def standing(self) -> Receipt | None:
        """The receipt, if all it names is as it says."""
        record = recorded(self.folder, self.shard.stem)
        return record.receipt if record and intact(self.root, record, self.fingerprint) else None

    def publish(
        self, paths: list[Path], index: IndexFile, inputs: tuple[FileFacts, ...]
    ) -> Receipt:
        """Make the local files `paths` and their receipt visible; the receipt that stands then."""
        receipt = Receipt(
            stage=STAGE,
            shard=str(self.shard),
            fingerprint=self.fingerprint,
            rows=index.rows,
            failures=dict(sorted(index.failures.items())),
            files=tuple(self._facts(path) for path in paths),
            inputs=inputs,
            facts=index.facts,
        )
        record = recorded(self.folder, self.shard.stem)
        if record and intact(self.root, record, self.fingerprint):
            return record.receipt
        if record:
            receipt = _after(record.receipt, receipt)
        for path in paths:
            commit.replace(join(self.folder, path.name), path)
        if record and receipt == record.receipt:
            return receipt
        standing = commit_receipt(self.folder, self.shard.stem, receipt)
        if standing.files != receipt.files:
            raise CommitConflict(
                f"shard {self.shard} was cut from other bytes at the same time: run again"
            )
        return standing

    def _facts(self, path: Path) -> FileFacts:
        url = self.root.relative(join(self.folder, path.name))
        return FileFacts(url=url, size=path.stat().st_size, sha256=sha256_file(path))


def _after(standing: Receipt, receipt: Receipt) -> Receipt:
    """`receipt` in the generation after `standing`, unless it says the same."""
    again = replace(receipt, generation=standing.generation)
    return again if again == standing else replace(again, generation=standing.generation + 1)
