"""What duplicates are told by: hashes and embeddings of a run, a space, or a folder of Parquet.

Shapes:  N rows   C embedding
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.captions import only_run, open_captions, run_settings
from storage.embeddings import embedding_store, embedding_values
from storage.errors import ConfigurationError
from storage.layout import Root, ShardName
from storage.parquet import read_batches, read_schema
from storage.reading import embedding_source, is_stored, read_space
from storage.settled import Settled
from storage.urls import folders, join, listing, redact

PRINTS = pa.schema(
    [
        pa.field("shard", pa.string()),
        pa.field("key", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("phash", pa.uint64()),
        pa.field("score", pa.float32()),
    ]
)
"""One sound picture; `score` ranks it among its duplicates."""

Vectors = Iterator[tuple[str, list[str], npt.NDArray[np.float32]]]


class Origin(Protocol):
    """A set of pictures among which duplicates are looked for."""

    def prints(self) -> Iterator[pa.Table]:
        """Its sound rows, as PRINTS."""

    def vectors(self) -> Vectors:
        """Shard, keys and image_NC, some thousands at a time; a row that failed is NaN."""

    @property
    def space(self) -> str:
        """Name of its embeddings, empty if nobody knows which they are."""


def open_origin(root: Root, run: str, space: str) -> Origin:
    """The run, else the space, else the only run or space that there is.

    A space goes by its whole name, or by its encoder's where that has one space.
    """
    if run and space:
        raise ConfigurationError("give a run or a space, not both")
    runs = folders(join(root.url, "captions"))
    spaces = folders(join(root.url, "embeddings"))
    if not run and not space and not runs and len(spaces) == 1:
        space = spaces[0]
    of_encoder = [name for name in spaces if name.rpartition("-")[0] == space]
    if len(of_encoder) == 1:
        space = of_encoder[0]
    if space or (not run and not runs):
        found = read_space(root, space) if space else None
        if found is None:
            known = ", ".join(map(repr, spaces)) or "none"
            raise ConfigurationError(f"there are no embeddings {space!r} under this root: {known}")
        return SpaceRows(root, found)
    name = run or only_run(root)
    settled = run_settings(root).read(name)
    if settled is None:
        known = ", ".join(map(repr, runs)) or "none"
        raise ConfigurationError(f"there is no run {name!r} under this root: {known}")
    return RunRows(root, settled)


def open_against(url: str, ours: Origin) -> Origin:
    """The held-out set at `url`: a root with the same embeddings, or else a folder of Parquet."""
    root = Root(url.rstrip("/"))
    inside = folders(url)
    if "embeddings" in inside or "captions" in inside:
        if ours.space and read_space(root, ours.space):
            return open_origin(root, "", ours.space)
        return open_origin(root, "", "")
    return ParquetRows(url)


@dataclass(frozen=True, slots=True)
class RunRows:
    """The newest rows of a run, with the embeddings that it was captioned from."""

    root: Root
    run: Settled

    @property
    def space(self) -> str:
        """Its embeddings' name."""
        return str(self.run.resolved["embeddings"]["space"])

    def prints(self) -> Iterator[pa.Table]:
        """Captioned rows."""
        columns = ["shard", "key", "sha256", "phash", "clip_sim", "status"]
        for batch in open_captions(self.root.url, self.run.name, columns=columns):
            yield _sound(pa.Table.from_batches([batch]), "clip_sim")

    def vectors(self) -> Vectors:
        """Of its space."""
        found = read_space(self.root, self.space)
        if found is None:
            raise ConfigurationError(f"the embeddings {self.space!r} of this run are gone")
        return SpaceRows(self.root, found).vectors()


@dataclass(frozen=True, slots=True)
class SpaceRows:
    """Every row of one set of embeddings."""

    root: Root
    settled: Settled

    @property
    def space(self) -> str:
        """Its name."""
        return self.settled.name

    def prints(self) -> Iterator[pa.Table]:
        """Embedded rows; nothing ranks them but their name."""
        for shard, table in self._tables(["key", "sha256", "phash", "status"]):
            names = pa.array([shard] * table.num_rows, pa.string())
            yield _sound(table.append_column("shard", names), "")

    def vectors(self) -> Vectors:
        """As stored."""
        for shard, table in self._tables(["key", "embedding"]):
            yield shard, table["key"].to_pylist(), embedding_values(table)

    def _tables(self, columns: list[str]) -> Iterator[tuple[str, pa.Table]]:
        if is_stored(self.settled):
            source = embedding_source(self.root, self.settled)
            for offered in source.offered():
                for _, table in source.open(offered.name):
                    yield str(offered.name), table
            return
        store = embedding_store(self.root, self.settled)
        for batch in store.batches():
            for stem in sorted(store.receipts(batch)):
                name = ShardName(batch, stem)
                for table in store.read(name, columns):
                    yield str(name), table


class ParquetRows:
    """Any Parquet files with a column sha256, phash or embedding, directly in a folder."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.space = ""
        self.files = [join(url, name) for name in listing(url) if name.endswith(".parquet")]
        if not self.files:
            raise ConfigurationError(f"{redact(url)!r} is no root, and holds no .parquet files")
        for file in self.files:
            if not {"sha256", "phash", "embedding"} & set(read_schema(file).names):
                raise ConfigurationError(
                    f"{redact(file)!r} has none of the columns sha256, phash and embedding"
                )

    def prints(self) -> Iterator[pa.Table]:
        """Rows whose status, if they have one, is ok."""
        for stem, table in self._tables({"sha256", "phash", "status"}):
            there = table if "shard" in table.schema.names else table.append_column(
                "shard", pa.array([stem] * table.num_rows, pa.string())
            )  # fmt: skip
            yield _sound(there, "")

    def vectors(self) -> Vectors:
        """Of the files that have them."""
        for stem, table in self._tables({"embedding"}):
            if "embedding" not in table.schema.names:
                continue
            keys, image_NC = table["key"].to_pylist(), _matrix(table["embedding"])
            if "shard" not in table.schema.names:
                yield stem, keys, image_NC
                continue
            shard_N = np.array(table["shard"].to_pylist())
            for shard in np.unique(shard_N):
                at = np.flatnonzero(shard_N == shard)
                yield str(shard), [keys[number] for number in at], image_NC[at]

    def _tables(self, columns: set[str]) -> Iterator[tuple[str, pa.Table]]:
        for file in self.files:
            stem = file.rsplit("/", 1)[-1].removesuffix(".parquet")
            there = [n for n in read_schema(file).names if n in {*columns, "shard", "key"}]
            seen = 0
            for table in read_batches(file, there):
                if "key" not in there:
                    keys = [f"{number:09}" for number in range(seen, seen + table.num_rows)]
                    table = table.append_column("key", pa.array(keys))  # noqa: PLW2901
                seen += table.num_rows
                yield stem, table


def _sound(table: pa.Table, score: str) -> pa.Table:
    """The rows that are ok, with what is missing filled by nulls."""
    if "status" in table.schema.names:
        table = table.filter(pa.array([one == "ok" for one in table["status"].to_pylist()]))
    columns = [
        table[name].cast(PRINTS.field(name).type)
        if name in table.schema.names
        else pa.nulls(table.num_rows, PRINTS.field(name).type)
        for name in PRINTS.names[:-1]
    ]
    scores = table[score] if score else pa.nulls(table.num_rows, pa.float32())
    return pa.table([*columns, scores], schema=PRINTS)


def _matrix(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    rows = column.to_pylist()
    dim = max((len(row) for row in rows if row), default=0)
    empty = [np.nan] * dim
    return np.array([row if row and len(row) == dim else empty for row in rows], np.float32)


def scatter(origin: Origin, places: Callable[[str], dict[str, int]], path: Path, count: int) -> int:
    """Write the embeddings of `origin`, at length 1, into the float32 matrix at `path`.

    `places` tells the lines of a shard's keys; the matrix has `count` lines, of which only those
    of `origin` are written. Returns the width, 0 if there is no embedding. A row without an
    embedding stays all zeros.
    """
    width = 0
    image_NC: npt.NDArray[np.float32] | None = None
    known, lookup = "", dict[str, int]()
    for shard, keys, given_NC in origin.vectors():
        if shard != known:
            known, lookup = shard, places(shard)
        if image_NC is None:
            width = given_NC.shape[1]
            with path.open("ab") as file:
                file.truncate(4 * count * width)
            image_NC = np.memmap(path, np.float32, "r+", shape=(count, width))
        lines = np.array([lookup.get(key, -1) for key in keys])
        fine = (lines >= 0) & np.isfinite(given_NC).all(axis=1) & given_NC.any(axis=1)
        whole = given_NC[fine].astype(np.float64)
        image_NC[lines[fine]] = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    return width
