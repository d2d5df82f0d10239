"""A folder in clip-retrieval's layout, as it lies: which files belong together, what they hold.

DIR/img_emb/img_emb_{n}.npy goes with DIR/metadata/metadata_{n}.parquet; `n` is a shard's stem as it
is written. Nothing is copied; a look reads some rows of a few files.
"""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage.errors import ConfigurationError, ShardError
from storage.npy import NpyHeader, read_header
from storage.parquet import row_count
from storage.receipts import stamp_of
from storage.sources.tree import Tree
from storage.urls import Stat, join, listing, open_read, redact, stat

_EMBEDDINGS = re.compile(r"img_emb_(\d+)\.npy")
_FILES, _SPOTS, _ROWS = 8, 4, 32
"""What a look takes: files, places in each, rows at each."""
NEAR = 0.01
"""How far from 1 the length of a normalised embedding may be; float16 stays within 0.001."""


@dataclass(frozen=True, slots=True)
class StoredPair:
    """The two files of one shard."""

    stem: str
    npy: str
    """URL."""
    metadata: str
    """URL."""
    npy_stat: Stat
    metadata_stat: Stat


@dataclass(frozen=True, slots=True)
class StoredLook:
    """What a sample of rows says of the whole folder."""

    dim: int
    normalized: bool
    """Whether every row has length 1."""
    value: str
    """`float16` or `float32`, of the first file."""


class StoredFolder:
    """The embeddings in the folder at `url`."""

    def __init__(self, url: str) -> None:
        tree = Tree(url)
        self.url = tree.url
        self.shown = tree.shown("")

    def pairs(self) -> list[StoredPair]:
        """The shards by number; ConfigurationError if there is none, or one lacks its metadata."""
        if found := self.there():
            return found
        raise ConfigurationError(
            f"{self.shown!r} has no img_emb/img_emb_0.npy or the like: give the folder that "
            "holds img_emb/ and metadata/"
        )

    def there(self) -> list[StoredPair]:
        """As `pairs`, but none where the folder went away."""
        arrays = listing(join(self.url, "img_emb"))
        tables = listing(join(self.url, "metadata"))
        found = []
        for name, facts in arrays.items():
            if match := _EMBEDDINGS.fullmatch(name):
                beside = f"metadata_{match[1]}.parquet"
                if beside not in tables:
                    raise ConfigurationError(
                        f"{self.shown!r} has img_emb/{name}, but no metadata/{beside} beside it"
                    )
                npy, metadata = (
                    join(self.url, "img_emb", name),
                    join(self.url, "metadata", beside),
                )
                found.append(StoredPair(match[1], npy, metadata, facts, tables[beside]))
        return sorted(found, key=lambda pair: (int(pair.stem), pair.stem))

    def look(self) -> StoredLook:
        """Width and length of the rows, told by a sample; ConfigurationError if it disagrees."""
        pairs = self.pairs()
        chosen = sorted({round(at) for at in np.linspace(0, len(pairs) - 1, _FILES)})
        try:
            looks = [_sampled(pairs[at]) for at in chosen]
        except ShardError as error:
            raise ConfigurationError(str(error)) from error
        dims = sorted({header.dim for header, _ in looks})
        if len(dims) > 1:
            raise ConfigurationError(f"{self.shown!r} holds embeddings of several widths: {dims}")
        normalized = self._normalized(np.concatenate([norms for _, norms in looks]))
        return StoredLook(dims[0], normalized, looks[0][0].dtype.newbyteorder("=").name)

    def _normalized(self, norm_N: npt.NDArray[np.float32]) -> bool:
        if not norm_N.size:
            raise ConfigurationError(f"{self.shown!r} holds no row with finite numbers to look at")
        near = np.abs(norm_N - 1) <= NEAR
        if near.any() and not near.all():
            raise ConfigurationError(
                f"{self.shown!r} is mixed: {near.sum()} of {norm_N.size} sampled rows have "
                f"length 1, the others {norm_N[~near].min():.4g} to {norm_N[~near].max():.4g}"
            )
        return bool(near.all())


def check_pair(pair: StoredPair, header: NpyHeader) -> None:
    """ShardError unless the array is as long as it says, and has the rows of its metadata."""
    if pair.npy_stat.size != header.size:
        raise ShardError(
            f"{header.shown!r} has {pair.npy_stat.size} bytes, its header promises {header.size}"
        )
    rows = row_count(pair.metadata)
    if rows != header.rows:
        raise ShardError(
            f"{header.shown!r} has {header.rows} rows, {redact(pair.metadata)!r} has {rows}"
        )


def lengths(image_NC: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The length of each row; NaN where it is not finite or nothing but zeros."""
    norm_N = np.linalg.norm(image_NC.astype(np.float64), axis=1)
    usable_N = np.isfinite(norm_N) & (norm_N > 0)
    return np.where(usable_N, norm_N, np.nan).astype(np.float32)


def still_the_same(pair: StoredPair) -> bool:
    """Whether both files are as they were when they were listed."""
    before = ((pair.npy, pair.npy_stat), (pair.metadata, pair.metadata_stat))
    now = ((stat(url), facts) for url, facts in before)
    return all(
        there is not None and (there.size, stamp_of(there)) == (facts.size, stamp_of(facts))
        for there, facts in now
    )


def _sampled(pair: StoredPair) -> tuple[NpyHeader, npt.NDArray[np.float32]]:
    """The header and the lengths of some rows, spread over the file."""
    with open_read(pair.npy) as file:
        header = read_header(file, redact(pair.npy))
        check_pair(pair, header)
        rows = min(_ROWS, header.rows)
        found = []
        for start in sorted({round(at) for at in np.linspace(0, header.rows - rows, _SPOTS)}):
            file.seek(header.offset + start * header.row_bytes)
            found.append(lengths(header.take(file, rows)))
    norm_N = np.concatenate(found)
    return header, norm_N[np.isfinite(norm_N)]
