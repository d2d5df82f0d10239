"""Training examples on disk: embeddings and tokenised captions, read a batch at a time.

Plain reads at offsets instead of memory maps: what a map has touched counts as this process's
memory, so that a map's share would grow with the collection.
Shapes:  B batch   C embedding   T caption tokens of the longest in the batch
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captioner.errors import ModelError

_EMBEDDINGS, _TOKENS = "embeddings.f32", "tokens.i32"


@dataclass(frozen=True, slots=True)
class Batch:
    """Some pictures, each with one caption."""

    images: Tensor
    """Embeddings image_BC, float32."""
    tokens: Tensor
    """Caption tokens token_BT; what stands after a caption's length is arbitrary."""
    lengths: Tensor
    """Tokens of each caption: length_B."""

    def pinned(self) -> "Batch":
        """The batch in memory that a GPU copies from while it computes."""
        return Batch(self.images.pin_memory(), self.tokens.pin_memory(), self.lengths)


class ExampleFile:
    """Pictures (an embedding each) with their captions, in two files of one folder.

    In memory are only 16 bytes a picture and 8 a caption. Made by `write_examples`.
    """

    def __init__(self, folder: Path, dim: int, index: "_Index") -> None:
        self.dim = dim
        self.longest = int(np.diff(index.token_ends, prepend=0).max(initial=0))
        """Tokens of the longest caption."""
        self._index = index
        self._embeddings, self._tokens = folder / _EMBEDDINGS, folder / _TOKENS

    def __len__(self) -> int:
        return len(self._index.caption_ends)

    @property
    def digest(self) -> str:
        """sha256 (hex) over embeddings, captions and their order."""
        return self._index.digest

    def close(self) -> None:
        """Delete the files, which served this training alone; reading is over."""
        self._embeddings.unlink(missing_ok=True)
        self._tokens.unlink(missing_ok=True)

    def captions_of(self, picture: int) -> int:
        """How many captions a picture has: at least one."""
        first, end = self._index.captions(picture)
        return end - first

    def length_of(self, picture: int, which: int) -> int:
        """Tokens of one of a picture's captions."""
        first, end = self._index.captions(picture)
        start, stop = self._index.tokens(first + which % (end - first))
        return stop - start

    def batch(self, rows: Sequence[tuple[int, int]]) -> Batch:
        """The examples of (picture, which of its captions), in order."""
        with self._tokens.open("rb") as file:
            captions = [self._caption(file, picture, which) for picture, which in rows]
        lengths = [len(caption) for caption in captions]
        token_BT = np.zeros((len(rows), max(lengths)), dtype=np.int64)
        for row, caption in enumerate(captions):
            token_BT[row, : len(caption)] = caption
        image_BC = self.embeddings([picture for picture, _ in rows])
        return Batch(torch.from_numpy(image_BC), torch.from_numpy(token_BT), torch.tensor(lengths))

    def embeddings(self, pictures: Sequence[int]) -> npt.NDArray[np.float32]:
        """The embeddings of some pictures, in the order asked for: image_BC."""
        image_BC = np.empty((len(pictures), self.dim), dtype=np.float32)
        with self._embeddings.open("rb") as file:
            for row, picture in enumerate(pictures):
                file.seek(picture * self.dim * 4)
                image_BC[row] = np.frombuffer(file.read(self.dim * 4), dtype=np.float32)
        return image_BC

    def split(self, val_fraction: float, seed: int) -> tuple[list[int], list[int]]:
        """Training and held-out pictures; pictures with equal embeddings go the same way.

        Which are held out depends on their content and `seed`, not on their order. At least one
        of two or more is held out unless `val_fraction` is 0.
        """
        wanted = int(len(self) * val_fraction)
        if val_fraction > 0 and len(self) > 1:
            wanted = max(1, wanted)
        drawn = [
            hashlib.blake2b(mark.to_bytes(8, "little"), key=str(seed).encode(), digest_size=8)
            for mark in self._index.marks
        ]
        order = sorted((mark.digest(), picture) for picture, mark in enumerate(drawn))
        limit = order[wanted - 1][0] if wanted else b""
        held_out = [picture for mark, picture in order if mark <= limit]
        if len(held_out) == len(self):
            held_out = []
        rest = set(range(len(self))).difference(held_out)
        return sorted(rest), held_out

    def figures(self, pictures: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Mean and deviation (each of shape C) of the embeddings of some pictures."""
        parts = [pictures[at : at + 1024] for at in range(0, len(pictures), 1024)]
        count = max(1, len(pictures))
        mean_C, square_C = np.zeros(self.dim), np.zeros(self.dim)
        for part in parts:
            mean_C += self.embeddings(part).sum(0, dtype=np.float64) / count
        for part in parts:
            square_C += ((self.embeddings(part) - mean_C) ** 2).sum(0) / count
        return torch.from_numpy(mean_C).float(), torch.from_numpy(square_C).sqrt().float()

    def _caption(self, file: IO[bytes], picture: int, which: int) -> npt.NDArray[np.int32]:
        first, end = self._index.captions(picture)
        start, stop = self._index.tokens(first + which % (end - first))
        file.seek(start * 4)
        return np.frombuffer(file.read((stop - start) * 4), dtype=np.int32)


@dataclass(frozen=True, slots=True)
class _Index:
    caption_ends: npt.NDArray[np.int64]
    """After picture i: captions so far."""
    token_ends: npt.NDArray[np.int64]
    """After caption j: tokens so far."""
    marks: Sequence[int]
    """64 bits of each embedding's hash."""
    digest: str

    def captions(self, picture: int) -> tuple[int, int]:
        before = self.caption_ends[picture - 1] if picture else 0
        return int(before), int(self.caption_ends[picture])

    def tokens(self, caption: int) -> tuple[int, int]:
        before = self.token_ends[caption - 1] if caption else 0
        return int(before), int(self.token_ends[caption])


def write_examples(
    folder: Path,
    pictures: Iterable[tuple[npt.ArrayLike, Sequence[str]]],
    tokens: Callable[[str], list[int]],
    *,
    max_tokens: int,
) -> ExampleFile:
    """Write (embedding, captions) pairs into `folder`, as they come, and open them for reading.

    `tokens` turns a caption into ids, cut after `max_tokens`; empty captions, and pictures left
    with none, are passed over. Raises ModelError if no picture is left, or if embeddings differ
    in width or are not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        embeddings = stack.enter_context((folder / _EMBEDDINGS).open("wb"))
        tokens_out = stack.enter_context((folder / _TOKENS).open("wb"))
        writer = _Writer(embeddings, tokens_out)
        for embedding, captions in pictures:
            rows = [ids[:max_tokens] for caption in captions if (ids := tokens(caption))]
            if rows:
                writer.add(np.asarray(embedding, dtype="<f4"), rows)
    if not writer.caption_ends:
        raise ModelError("There is nothing to train on: no picture has a caption.")
    return ExampleFile(folder, writer.dim, writer.index())


class _Writer:
    def __init__(self, embeddings: IO[bytes], tokens: IO[bytes]) -> None:
        self.dim = 0
        self.caption_ends = array("q")
        self._files = embeddings, tokens
        self._token_ends = array("q")
        self._marks = array("Q")
        self._whole = hashlib.sha256()
        self._n_tokens = 0

    def add(self, embedding: npt.NDArray[np.float32], rows: Sequence[Sequence[int]]) -> None:
        self.dim = self.dim or embedding.size
        if embedding.shape != (self.dim,) or not np.isfinite(embedding).all():
            raise ModelError(
                f"An embedding has shape {embedding.shape} or values that are not finite; "
                f"all must be {self.dim} finite numbers."
            )
        data = embedding.tobytes()
        self._files[0].write(data)
        self._marks.append(int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little"))
        self._whole.update(data)
        for ids in rows:
            caption = np.asarray(ids, dtype="<i4").tobytes()
            self._files[1].write(caption)
            self._whole.update(len(ids).to_bytes(8, "little") + caption)
            self._n_tokens += len(ids)
            self._token_ends.append(self._n_tokens)
        self.caption_ends.append(len(self._token_ends))

    def index(self) -> _Index:
        return _Index(
            np.frombuffer(self.caption_ends, dtype=np.int64),
            np.frombuffer(self._token_ends, dtype=np.int64),
            self._marks,
            self._whole.hexdigest(),
        )
