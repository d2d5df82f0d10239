"""Chosen rows with their pictures' bytes, each proved to be the one that was captioned."""

import hashlib
from collections.abc import Iterator

from storage.errors import ConfigurationError, ShardError
from storage.export_rows import Chosen
from storage.layout import ShardName
from storage.shards import Sample, ShardStore


def check_pictures(store: ShardStore, shard: str) -> None:
    """ConfigurationError where a run has no tars: its embeddings came from others."""
    if store.receipt(ShardName.parse(shard)) is None:
        raise ConfigurationError(
            f"there are no pictures for shard {shard}: captions of stored embeddings have none, "
            "so export them with --to parquet, or with --no-pictures"
        )


def with_pictures(
    store: ShardStore, shard: str, rows: Iterator[Chosen]
) -> Iterator[tuple[Chosen, bytes]]:
    """Each row of `shard` with its picture as stored, in order; memory holds one picture.

    ShardError as soon as a picture is missing or has other bytes than those captioned.
    """
    samples = store.samples(ShardName.parse(shard))
    for one in rows:
        yield one, _picture(one, samples, shard)
    for _ in samples:  # the tar's end says whether it is the one of its receipt
        pass


def _picture(one: Chosen, samples: Iterator[Sample], shard: str) -> bytes:
    key = one.row["key"]
    image = next((sample.image for sample in samples if sample.key == key), None)
    if image is None:
        raise ShardError(f"shard {shard}: its tar has no picture {key!r}")
    if hashlib.sha256(image).hexdigest() != one.row["sha256"]:
        raise ShardError(f"shard {shard}: picture {key!r} is not the one that was captioned")
    return image
