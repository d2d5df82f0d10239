"""Embeddings that others computed, read where they lie and registered once under a root.

A registration is a folder's settings: what its rows are, and the batch that its shards are called
by. It is frozen, so a folder keeps its name and two folders never share one.

Shapes:  N rows   C embedding
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain, count
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.embedded import Offered, ShardRows
from storage.embeddings import embedding_settings, with_embeddings
from storage.errors import ShardError
from storage.fingerprint import sha256_stream
from storage.layout import Root, ShardName, safe_name
from storage.npy import Hashing, NpyHeader, read_header
from storage.receipts import FileFacts, stamp_of
from storage.schema import SCHEMA_VERSION, embeddings_schema
from storage.settled import SettingsFile, Settled
from storage.stored_folder import (
    NEAR,
    StoredFolder,
    StoredLook,
    StoredPair,
    check_pair,
    lengths,
    still_the_same,
)
from storage.stored_metadata import StoredMetadata
from storage.urls import Stat, join, open_read, redact

STAGE = "stored"
_COPIED = ("key", "sha256", "width", "height", "format", "status", "error_code", "error_detail")


def stored_settings(root: Root) -> SettingsFile:
    """Where registrations are kept: `embeddings/<batch>/stored.json`."""
    return SettingsFile(parent=join(root.url, "embeddings"), file="stored.json")


def find_stored(root: Root, folder: StoredFolder) -> Settled | None:
    """The registration of `folder`, None if it has none yet."""
    return stored_settings(root).find(_request(folder))


def register_stored(root: Root, folder: StoredFolder, look: StoredLook) -> Settled:
    """The registration of `folder`, made now if it has none.

    Its name is the folder's own, with `-2`, `-3`, … if another folder has that.
    """
    base = safe_name(folder.url.rstrip("/").rpartition("/")[2])
    settings, request = stored_settings(root), _request(folder)
    for name in chain([base], (f"{base}-{number}" for number in count(2))):
        standing = settings.read(name)
        if standing is None and embedding_settings(root).read(name) is None:
            resolve = partial(_resolved, name, look)
            standing = settings.settle(request, resolve, title="batch", name=name)
        if standing and standing.request == request:
            return standing
    raise AssertionError("numbers do not end")


def look_of(space: Settled) -> StoredLook:
    """What a registration says of its rows."""
    return StoredLook(**{name: space.resolved[name] for name in ("dim", "normalized", "value")})


class StoredEmbeddings:
    """The shards of one registered folder."""

    def __init__(self, root: Root, space: Settled) -> None:
        self._root = root
        self._batch = space.name
        self._look = look_of(space)
        self._folder = StoredFolder(str(space.request["folder"]))

    def offered(self) -> Iterator[Offered]:
        """Every pair of files; how many rows is told from the size."""
        for pair in self._folder.there():
            rows = pair.npy_stat.size // (np.dtype(self._look.value).itemsize * self._look.dim)
            name = ShardName(self._batch, pair.stem)
            yield Offered(name, rows, _inputs(self._root, pair, ("", "")))

    def open(self, shard: ShardName) -> ShardRows:
        """The rows of one pair of files; ShardError if it is there no more."""
        for pair in self._folder.pairs():
            if pair.stem == shard.stem:
                return _StoredRows(self._root, pair, self._look)
        raise ShardError(f"shard {shard} is no longer in {self._folder.shown!r}")

    def hashes(self) -> list[list[str]]:
        """Of every file: all of them are read."""
        pairs = self._folder.pairs()
        return [[_sha256(pair.npy), _sha256(pair.metadata)] for pair in pairs]


@dataclass(slots=True)
class _StoredRows:
    root: Root
    pair: StoredPair
    look: StoredLook
    read: tuple[FileFacts, ...] = field(default=())

    def __iter__(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        schema = embeddings_schema(self.look.dim, "float32")
        shown = redact(self.pair.npy)
        with open_read(self.pair.npy) as opened:
            file = Hashing(opened)
            header = read_header(file, shown)
            self._check(header)
            for index in StoredMetadata(self.pair.metadata).tables():
                image_NC = header.take(file, index.num_rows)
                self._check_lengths(header, lengths(image_NC))
                yield index, with_embeddings(_seen(index, image_NC), image_NC, schema)
        digests = file.sha256, _sha256(self.pair.metadata)
        if not still_the_same(self.pair):
            raise ShardError(f"{shown!r} or its metadata changed while it was read")
        self.read = _inputs(self.root, self.pair, digests)

    def inputs(self) -> tuple[FileFacts, ...]:
        return self.read

    def _check(self, header: NpyHeader) -> None:
        if header.dim != self.look.dim:
            raise ShardError(
                f"{header.shown!r} has embeddings of width {header.dim}, but its folder was "
                f"registered with {self.look.dim}"
            )
        check_pair(self.pair, header)

    def _check_lengths(self, header: NpyHeader, norm_N: npt.NDArray[np.float32]) -> None:
        """ShardError if the rows are not as the look at the folder promised."""
        near = np.abs(norm_N[np.isfinite(norm_N)] - 1) <= NEAR
        if near.size and near.all() != self.look.normalized:
            others = "length 1" if self.look.normalized else "other lengths"
            raise ShardError(
                f"{header.shown!r} does not fit its folder, which was registered with rows of "
                f"{others}: here {near.sum()} of {near.size} have length 1"
            )


def _seen(index: pa.Table, image_NC: npt.NDArray[np.float32]) -> pa.Table:
    """The embeddings' own columns; what cannot be read as an embedding becomes an error."""
    finite_N = np.isfinite(image_NC).all(axis=1)
    fine = np.asarray(pc.equal(index["status"], "ok"))
    bad = pa.array(fine & ~(finite_N & image_NC.any(axis=1)))
    what = np.where(finite_N, "is all zeros", "is not finite")
    detail = pc.binary_join_element_wise("the stored embedding ", pa.array(what, pa.string()), "")
    told = {"status": "error", "error_code": "model_error", "error_detail": detail}
    columns = {name: index[name] for name in _COPIED}
    columns |= {name: pc.if_else(bad, value, columns[name]) for name, value in told.items()}
    columns["phash"] = pa.nulls(len(index), pa.uint64())
    names = [column.name for column in embeddings_schema(1, "float32")][:-1]
    return pa.table({name: columns[name] for name in names})


def _inputs(root: Root, pair: StoredPair, digests: tuple[str, str]) -> tuple[FileFacts, ...]:
    def facts(url: str, known: Stat, sha256: str) -> FileFacts:
        name, stamp = root.relative(url), stamp_of(known)
        return FileFacts(url=name, size=known.size, sha256=sha256, stamp=stamp)

    return (
        facts(pair.npy, pair.npy_stat, digests[0]),
        facts(pair.metadata, pair.metadata_stat, digests[1]),
    )


def _request(folder: StoredFolder) -> dict[str, Any]:
    return {"stage": STAGE, "folder": folder.shown}


def _resolved(name: str, look: StoredLook) -> dict[str, Any]:
    """No path is in it: the batch's name tells two folders apart."""
    return {"stage": STAGE, "batch": name, "schema": SCHEMA_VERSION, **asdict(look)}


def _sha256(url: str) -> str:
    with open_read(url) as file:
        return sha256_stream(file)
