"""Embed one shard: decode its pictures beside the encoder's work, commit a row for each.

Shapes:  B batch   C embedding
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from captioner.copies import Coming, Copies, copies_to, pulled_ahead
from captioner.devices import Numerics
from captioner.encoders import Encoder
from captioner.errors import PictureError
from captioner.memory import within_memory
from captioner.pictures import PictureLimits, decode, phash
from storage.embeddings import (
    embedding_file_schema,
    embedding_settings,
    embedding_store,
    embedding_table,
)
from storage.errors import ConfigurationError
from storage.layout import Root, ShardName, open_root
from storage.receipts import Receipt
from storage.settled import Settled
from storage.shards import Sample, ShardStore
from tasks.progress import tick
from tasks.settings.common import space_form
from tasks.units.jobs import EmbedJob
from tasks.units.loaded import encoder_in_lane

AHEAD = 3
"""Batches decoded in advance: enough to keep the encoder busy, little enough to hold."""


@dataclass(frozen=True, slots=True)
class EmbedWork:
    """What a job names, found and loaded."""

    root: Root
    shard: ShardName
    settled: Settled
    encoder: Encoder

    @classmethod
    def of(cls, job: EmbedJob) -> "EmbedWork":
        """Raises ConfigurationError if the job's space has no settings."""
        root = open_root(job.root)
        settled = embedding_settings(root).read(job.space)
        if settled is None:
            raise ConfigurationError(f"there are no settings for embeddings {job.space!r}")
        numerics = Numerics(**settled.resolved["numerics"])
        encoder = encoder_in_lane(job.encoder, space_form(settled), numerics)
        return cls(root, ShardName.parse(job.shard), settled, encoder)

    @property
    def schema(self) -> pa.Schema:
        """Of the rows."""
        return embedding_file_schema(self.settled)

    def samples(self) -> Iterator[Sample]:
        """All of the shard's, in order."""
        return ShardStore(self.root).samples(self.shard)

    def rows(self, samples: Iterable[Sample]) -> Iterator[pa.Table]:
        """A row for each of `samples`."""
        numerics = Numerics(**self.settled.resolved["numerics"])
        return embedded(samples, self.encoder, numerics, self.schema)


def embed_shard(job: EmbedJob) -> Receipt:
    """The receipt of the shard's embeddings, made now."""
    work = EmbedWork.of(job)
    tables = work.rows(without(work.samples(), dict(job.refused)))
    made_from = ShardStore(work.root).receipt_input(work.shard)
    store = embedding_store(work.root, work.settled)
    return store.commit(work.shard, tables, work.schema, made_from)


def probe_pictures(job: EmbedJob, start: int, stop: int) -> int:
    """Embed rows `start` to `stop` of the shard and keep nothing: whoever asks sees if we live."""
    work = EmbedWork.of(job)
    return sum(len(table) for table in work.rows(islice(work.samples(), start, stop)))


def without(samples: Iterable[Sample], refused: dict[int, str]) -> Iterator[Sample]:
    """`samples`, of which those at the positions `refused` are rows with that code."""
    for number, sample in enumerate(samples):
        if code := refused.get(number):
            detail = "it ended the process that worked on it, alone and twice with others"
            yield Sample(sample.key, sample.row | _failure(code, detail), None)
        else:
            yield sample


def embedded(
    samples: Iterable[Sample], encoder: Encoder, numerics: Numerics, schema: pa.Schema
) -> Iterator[pa.Table]:
    """One row for every sample, in order, a batch at a time.

    A batch is always the same pictures, however long each takes, so that a resumed shard has the
    bits of an undisturbed one.
    """
    copies = copies_to(numerics.device)
    with ThreadPoolExecutor(numerics.threads) as decoders:
        prepared = _ahead(samples, encoder, decoders, AHEAD * numerics.batch_size)
        begun = _begun(prepared, copies, numerics.batch_size)
        for batch, coming in pulled_ahead(begun, copies.ahead):
            yield _embed(batch, coming(), encoder, schema)
            tick("embed", len(batch))


@dataclass(slots=True)
class _Prepared:
    """A row without its embedding, and what the encoder reads (None where the picture failed)."""

    row: dict[str, Any]
    pixels_CHW: torch.Tensor | None


def _ahead(
    samples: Iterable[Sample], encoder: Encoder, decoders: ThreadPoolExecutor, window: int
) -> Iterator[_Prepared]:
    pending: deque[Future[_Prepared]] = deque()
    for sample in samples:
        pending.append(decoders.submit(_prepare, sample, encoder))
        if len(pending) >= window:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _prepare(sample: Sample, encoder: Encoder) -> _Prepared:
    known = ("key", "sha256", "width", "height", "format", "status", "error_code", "error_detail")
    row = {**{name: sample.row[name] for name in known}, "phash": None}
    if row["status"] != "ok" or sample.image is None:
        return _Prepared(row, None)
    try:
        picture = decode(sample.image, PictureLimits(), shrink_to=encoder.image_size)
        row |= {"width": picture.width, "height": picture.height, "phash": phash(picture)}
        return _Prepared(row, encoder.preprocess(picture.rgb))
    except PictureError as error:
        return _Prepared(row | _failure(error.code, error.detail), None)


def _begun(
    prepared: Iterator[_Prepared], copies: Copies, size: int
) -> Iterator[tuple[list[_Prepared], Coming]]:
    """Batches, the pixels of each on their way to the device from when it is asked for."""
    while batch := list(islice(prepared, size)):
        pixels = [one.pixels_CHW for one in batch if one.pixels_CHW is not None]
        yield batch, copies.begin(pixels)


def _embed(
    batch: list[_Prepared], pixels_BCHW: torch.Tensor, encoder: Encoder, schema: pa.Schema
) -> pa.Table:
    image_BC: npt.NDArray[np.float32] = np.zeros((len(batch), encoder.dim), dtype=np.float32)
    there = [number for number, one in enumerate(batch) if one.pixels_CHW is not None]
    made = within_memory(
        lambda start, stop: list(encoder.encode_images(pixels_BCHW[start:stop])), len(there)
    )
    for number, image_C in zip(there, made, strict=True):
        if image_C is None:
            batch[number].row |= _failure("out_of_memory", "the device has no room for it alone")
        else:
            image_BC[number] = image_C.numpy()
    sound = np.isfinite(
        image_BC.astype(schema.field("embedding").type.value_type.to_pandas_dtype())
    )
    rows = [
        one.row if fine else one.row | _failure("model_error", "the embedding is not finite")
        for one, fine in zip(batch, sound.all(axis=1), strict=True)
    ]
    return embedding_table(rows, image_BC, schema)


def _failure(code: str, detail: str) -> dict[str, Any]:
    return {"status": "error", "error_code": code, "error_detail": detail}
