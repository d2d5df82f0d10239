"""Where later stages take embeddings from, and what is known of their pictures.

Captions and training read through `EmbeddingSource` alone: `MadeHere` gives what this root's own
embed stage made, `storage.stored` what others computed and put into a folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from storage.embeddings import embedding_store
from storage.errors import ShardError
from storage.layout import Root, ShardName
from storage.parquet import read
from storage.receipts import FileFacts, Receipt
from storage.settled import Settled
from storage.shards import ShardStore


@dataclass(frozen=True, slots=True)
class Offered:
    """One shard that a stage can be made from."""

    name: ShardName
    rows: int
    """0 where nobody knows yet."""
    inputs: tuple[FileFacts, ...]
    """What its output will name as inputs; one without a hash is known by its URL alone."""


class ShardRows(Protocol):
    """The rows of one shard, read once."""

    def __iter__(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Index and embeddings of the same rows, some thousands at a time."""

    def inputs(self) -> tuple[FileFacts, ...]:
        """The files that were read; to be asked for once the iteration has ended."""


class EmbeddingSource(Protocol):
    """Shards with embeddings."""

    def offered(self) -> Iterator[Offered]:
        """Every shard that is there, by batch and stem."""

    def open(self, shard: ShardName) -> ShardRows:
        """The rows of one of them."""

    def hashes(self) -> list[list[str]]:
        """sha256 of each shard's files, in the order of `offered`: what a training learns from."""


class MadeHere:
    """What the embed stage made with `space` under `root`."""

    def __init__(self, root: Root, space: Settled) -> None:
        self._shards = ShardStore(root)
        self._store = embedding_store(root, space)

    def offered(self) -> Iterator[Offered]:
        """Every embedded shard."""
        for batch in self._store.batches():
            for stem, made in sorted(self._store.receipts(batch).items()):
                receipt = made.receipt
                inputs = (*receipt.files, *receipt.inputs)
                yield Offered(ShardName(batch, stem), receipt.rows, inputs)

    def open(self, shard: ShardName) -> ShardRows:
        """Index and embeddings of a shard; ShardError if they hold other pictures."""
        return _Joined(self._shards, self._store.receipt(shard), shard)

    def hashes(self) -> list[list[str]]:
        """As the receipts say."""
        return [[file.sha256 for file in shard.inputs] for shard in self.offered()]


@dataclass(frozen=True, slots=True)
class _Joined:
    shards: ShardStore
    made: Receipt
    shard: ShardName

    def __iter__(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        embeddings = read(self.shards.root.absolute(self.made.files[0].url))
        for there, seen in zip(self.shards.index(self.shard), embeddings, strict=True):
            if not there["key"].equals(seen["key"]):
                raise ShardError(f"shard {self.shard}: index and embeddings hold other pictures")
            yield there, seen

    def inputs(self) -> tuple[FileFacts, ...]:
        return (*self.made.files, *self.made.inputs)
