"""Which examples each step of a training sees: a function of seed and step alone."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from captioner.examples import ExampleFile
from captioner.recipe import Recipe

_POOL = 32
"""Batches whose captions are sorted by length together: more would lose the chance of the order."""


class Visits:
    """The (picture, caption) rows of every batch; an epoch visits each picture, in a new order.

    With `every_caption` it visits each of their captions, else one of them, drawn anew. With
    `bucketed`, captions of like length share a batch, and batches come in a drawn order.
    """

    def __init__(self, pictures: Sequence[int], examples: ExampleFile, recipe: Recipe) -> None:
        self._pictures = np.asarray(pictures, dtype=np.int64)
        self._examples, self._recipe = examples, recipe
        if recipe.every_caption:
            counts = [examples.captions_of(picture) for picture in pictures]
            self._pictures = np.repeat(self._pictures, counts)
            numbers = [np.arange(count) for count in counts]
            self._which = np.concatenate(numbers) if numbers else np.zeros(0, np.int64)
        self.batch_size = min(recipe.batch_size, len(self._pictures))
        self._epoch: tuple[int, npt.NDArray[np.int64]] = (-1, np.zeros((0, 2), np.int64))
        self._pool: tuple[int, list[list[tuple[int, int]]]] = (-1, [])

    def __len__(self) -> int:
        """Visits in an epoch."""
        return len(self._pictures)

    def rows(self, batch: int) -> list[tuple[int, int]]:
        """The rows of one batch; a drawn caption's number is to be taken modulo its count."""
        if not self._recipe.bucketed:
            return list(self._stream(batch * self.batch_size, self.batch_size))
        pool, place = divmod(batch, _POOL)
        if self._pool[0] != pool:
            self._pool = (pool, self._sorted(pool))
        return self._pool[1][place]

    def _sorted(self, pool: int) -> list[list[tuple[int, int]]]:
        """The batches of a pool, each of like lengths, in a drawn order."""
        size = self.batch_size
        rows = list(self._stream(pool * _POOL * size, _POOL * size))
        rows.sort(key=lambda row: self._examples.length_of(*row))
        order = np.random.default_rng([self._recipe.seed, 1, pool]).permutation(_POOL)
        return [rows[at * size : (at + 1) * size] for at in order]

    def _stream(self, start: int, count: int) -> Iterator[tuple[int, int]]:
        for position in range(start, start + count):
            epoch, place = divmod(position, len(self._pictures))
            if self._epoch[0] != epoch:
                self._epoch = (epoch, self._shuffled(epoch))
            picture, which = self._epoch[1][place].tolist()
            yield picture, which

    def _shuffled(self, epoch: int) -> npt.NDArray[np.int64]:
        draw = np.random.default_rng([self._recipe.seed, epoch])
        which = draw.integers(0, 1 << 31, size=len(self._pictures))
        if not self._recipe.every_caption:
            return np.stack([draw.permutation(self._pictures), which], axis=1).astype(np.int64)
        order = draw.permutation(len(self._pictures))
        return np.stack([self._pictures[order], self._which[order]], axis=1).astype(np.int64)
