"""Shards: tars of pictures, each with an index of one row a picture and a receipt.

A shard is cut from a source, or is a tar of others that is adopted where it lies; readers see no
difference. Pictures are given only from a tar that proves to be the one its receipt names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from storage import img2dataset
from storage.commit import scratch
from storage.cutting import Adopter, Cutter, HeaderFacts, IndexFile, Inspect, Transform
from storage.errors import ConfigurationError, ShardError, TarError
from storage.fingerprint import sha256_stream
from storage.layout import Root, ShardName
from storage.made import made, receipts_of
from storage.parquet import read
from storage.plan_file import Plan, shard_fingerprint
from storage.receipts import FileFacts, Receipt, Recorded, recorded, stamp_of
from storage.shard_commit import ShardCommit
from storage.sources import Source
from storage.tar_reader import MAX_BYTES, TarReader, TarSample
from storage.tar_writer import TarWriter
from storage.urls import Stat, join, open_read, redact, stat

__all__ = ["HeaderFacts", "Inspect", "Sample", "ShardStore", "Transform"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A row of the index with its picture's bytes."""

    key: str
    row: dict[str, Any]
    """As in `storage.schema.INDEX`."""
    image: bytes | None
    """As stored, also where the row says that they are no sound picture; None if there are none."""


@dataclass(frozen=True, slots=True)
class ShardStore:
    """The shards under a root."""

    root: Root
    max_bytes: int = MAX_BYTES
    """Larger pictures become rows `too_large` and are not stored."""

    def cut(
        self,
        plan: Plan,
        stem: str,
        source: Source,
        inspect: Inspect,
        transform: Transform | None = None,
    ) -> Receipt:
        """Make tar and index of shard `stem` and commit them; the standing receipt if all is done.

        StoreUnavailable may be retried; ConfigurationError if `source` is not the plan's.
        """
        if source.facts != plan.source:
            raise ConfigurationError(
                f"batch {plan.batch!r} was planned from {plan.source['source']!r}, "
                f"not from {source.facts['source']!r}"
            )
        place = self._place(plan, stem)
        if standing := place.standing():
            return standing
        cutter = Cutter(source, inspect, transform, self.max_bytes)
        with scratch() as folder:
            tar, index = folder / f"{stem}.tar", IndexFile(folder / f"{stem}.parquet")
            with TarWriter(tar) as writer:
                index.write(cutter.rows(plan.rows(stem), writer))
            return place.publish([tar, index.path], index, ())

    def adopt(self, plan: Plan, stem: str, inspect: Inspect) -> Receipt:
        """Make the index of the tar of others that shard `stem` is; nothing is copied.

        TarError if it is not one sound tar.
        """
        place = self._place(plan, stem)
        if standing := place.standing():
            return standing
        row = plan.rows(stem)[0]
        url = str(row.url)
        listed, beside = img2dataset.beside(url)
        before = _there(url)
        with scratch() as folder, open_read(url) as file:
            index = IndexFile(folder / f"{stem}.parquet")
            reader = TarReader(file, redact(url), max_bytes=self.max_bytes)
            index.write(Adopter(row.path, inspect, listed).rows(reader))
            index.facts = {
                "members": reader.members,
                "skipped": dict(sorted(reader.skipped.items())),
            }
            tar = FileFacts(url=url, size=reader.size, sha256=reader.sha256, stamp=stamp_of(before))
            if _there(url) != before or before.size != reader.size:
                raise ShardError(f"{redact(url)!r} changed while it was read")
            return place.publish([index.path], index, (tar, *beside))

    def made(self, plan: Plan) -> set[str]:
        """Stems of the plan that are done, and whose files and inputs are as they were."""
        return made(self.root, plan)

    def receipts(self, batch: str) -> dict[str, Recorded]:
        """The newest receipt of every shard of `batch`, by stem."""
        return receipts_of(self.root.shards(batch))

    def receipt(self, shard: ShardName) -> Receipt | None:
        """The shard's newest receipt; whether it still holds is `made`'s to say."""
        record = recorded(self.root.shards(shard.batch), shard.stem)
        return record.receipt if record else None

    def receipt_input(self, shard: ShardName) -> tuple[FileFacts, ...]:
        """What a later stage names as its inputs; ShardError if the shard is not made."""
        return self.inputs_from(self._recorded(shard))

    def inputs_from(self, record: Recorded) -> tuple[FileFacts, ...]:
        """Facts of tar, index and the receipt itself."""
        receipt = record.receipt
        folder = self.root.shards(ShardName.parse(receipt.shard).batch)
        url = self.root.relative(join(folder, record.name))
        own = FileFacts(url=url, size=record.size, sha256=record.sha256)
        return (*receipt.inputs, *receipt.files, own)

    def index(self, shard: ShardName) -> Iterator[pa.Table]:
        """The index, a row group at a time; ShardError if it is not the one committed."""
        yield from self._index(self._recorded(shard).receipt)

    def samples(self, shard: ShardName) -> Iterator[Sample]:
        """A sample for every row of the index, in order; memory holds one picture.

        The tar's hash is known at its end: TarError then says that nothing given may be used.
        """
        receipt = self._recorded(shard).receipt
        facts = tar_of(receipt)
        url = self.root.absolute(facts.url)
        if _there(url).size != facts.size:
            raise TarError(f"{redact(url)!r} has not the size that its receipt names")
        with open_read(url) as file:
            reader = TarReader(file, redact(url), sha256=facts.sha256, max_bytes=self.max_bytes)
            yield from _joined(self._index(receipt), iter(reader), str(shard))

    def _index(self, receipt: Receipt) -> Iterator[pa.Table]:
        facts = receipt.files[-1]
        url = self.root.absolute(facts.url)
        _there(url)
        with open_read(url) as file:
            if sha256_stream(file) != facts.sha256:
                raise ShardError(f"{redact(url)!r} is not the index that its receipt names")
        yield from read(url)

    def _place(self, plan: Plan, stem: str) -> ShardCommit:
        return ShardCommit(self.root, plan.shard(stem), shard_fingerprint(plan))

    def _recorded(self, shard: ShardName) -> Recorded:
        record = recorded(self.root.shards(shard.batch), shard.stem)
        if record is None:
            raise ShardError(f"shard {shard} is not made yet")
        return record


def _joined(index: Iterator[pa.Table], tar: Iterator[TarSample], shard: str) -> Iterator[Sample]:
    held = next(tar, None)
    for table in index:
        for row in table.to_pylist():
            if held is not None and held.key == row["key"]:
                yield Sample(held.key, row, held.image)
                held = next(tar, None)
            elif row["status"] == "ok":
                raise TarError(f"shard {shard}: the tar has no picture {row['key']!r} in its place")
            else:
                yield Sample(row["key"], row, None)
    if held is not None:
        raise TarError(f"shard {shard}: the index has no row for {held.key!r}")


def tar_of(receipt: Receipt) -> FileFacts:
    """The tar itself: ours comes first of the files, one of others first of the inputs."""
    return receipt.inputs[0] if receipt.inputs else receipt.files[0]


def _there(url: str) -> Stat:
    facts = stat(url)
    if facts is None:
        raise ShardError(f"{redact(url)!r} is missing")
    return facts
