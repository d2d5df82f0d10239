"""Two embeddings of the same pictures side by side: what a model reads, and what a scorer sees."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from storage.embedded import EmbeddingSource, Offered, ShardRows
from storage.errors import ShardError
from storage.layout import ShardName
from storage.receipts import FileFacts

SCORED = "scorer_embedding"
"""Column that holds the second embeddings, beside `embedding`."""


@dataclass(frozen=True, slots=True)
class Paired:
    """`first`, with the embeddings of `second` as one more column; shards that both have."""

    first: EmbeddingSource
    second: EmbeddingSource

    def offered(self) -> Iterator[Offered]:
        """Every shard that is in both."""
        others = {shard.name: shard.inputs for shard in self.second.offered()}
        for shard in self.first.offered():
            if shard.name in others:
                inputs = _together(shard.inputs, others[shard.name])
                yield Offered(shard.name, shard.rows, inputs)

    def open(self, shard: ShardName) -> ShardRows:
        """The rows of one shard; ShardError if the two hold other pictures."""
        return _Rows(self.first.open(shard), self.second.open(shard), shard)

    def hashes(self) -> list[list[str]]:
        """sha256 of each shard's files, of both."""
        return [[file.sha256 for file in shard.inputs] for shard in self.offered()]


@dataclass(frozen=True, slots=True)
class _Rows:
    first: ShardRows
    second: ShardRows
    shard: ShardName

    def __iter__(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        pairs = zip(self.first, self.second, strict=True)
        for (index, seen), (_, scored) in pairs:
            if not seen["key"].equals(scored["key"]):
                raise ShardError(f"shard {self.shard}: its two embeddings hold other pictures")
            yield index, seen.append_column(SCORED, scored["embedding"])

    def inputs(self) -> tuple[FileFacts, ...]:
        return _together(self.first.inputs(), self.second.inputs())


def _together(one: tuple[FileFacts, ...], other: tuple[FileFacts, ...]) -> tuple[FileFacts, ...]:
    return (*one, *(file for file in other if file not in one))
