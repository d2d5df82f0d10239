"""A .npy file of embeddings read in slices: never unpickled, never held as a whole.

Shapes:  N rows   C embedding
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from tokenize import TokenError
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from storage.errors import ShardError

_READERS: dict[tuple[int, int], Callable[..., tuple[Any, bool, np.dtype[Any]]]] = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}
"""By version of the format; later ones only add names of fields, which embeddings have not."""

_BROKEN = (SyntaxError, TokenError, RecursionError, MemoryError)
"""What numpy lets through on headers that are no Python literal."""


class Readable(Protocol):
    """A file as far as it is needed here."""

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes, fewer only at the end."""


class Hashing:
    """`file` read once from front to back, hashed on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        data = self._file.read(size)
        self._digest.update(data)
        return data

    @property
    def sha256(self) -> str:
        """Hash of what was read so far."""
        return self._digest.hexdigest()


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What a .npy file of embeddings says of itself."""

    shown: str
    """The file's URL, fit for errors."""
    rows: int
    dim: int
    dtype: np.dtype[np.floating]
    offset: int
    """Bytes before the first row."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dim * self.dtype.itemsize

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.offset + self.rows * self.row_bytes

    def take(self, file: Readable, rows: int) -> npt.NDArray[np.float32]:
        """The next rows of `file` as image_NC; ShardError if it ends before."""
        data = file.read(rows * self.row_bytes)
        if len(data) < rows * self.row_bytes:
            raise ShardError(f"{self.shown!r} ends before its last row: it is cut")
        image_NC = np.frombuffer(data, dtype=self.dtype).reshape(rows, self.dim)
        with np.errstate(over="ignore", invalid="ignore"):
            return image_NC.astype(np.float32)


def read_header(file: Readable, shown: str) -> NpyHeader:
    """The header of `file`, read from its beginning; ShardError for anything but (N, C) floats."""
    counted = _Counted(file)
    try:
        version = npy_format.read_magic(counted)  # type: ignore[arg-type]
        shape, by_columns, dtype = _READERS[version](counted)
    except (*_BROKEN, ValueError, KeyError) as error:
        why = str(error).partition("\n")[0]
        raise ShardError(f"{shown!r} is no .npy file of numbers: {why}") from error
    if dtype.hasobject:
        raise ShardError(f"{shown!r} holds pickled Python objects, which are never read")
    if dtype.kind != "f" or dtype.itemsize not in (2, 4):
        raise ShardError(f"{shown!r} holds {dtype}, not float16 or float32")
    if len(shape) != 2 or shape[0] < 0 or shape[1] < 1:
        raise ShardError(f"{shown!r} has the shape {shape}, not (rows, width)")
    if by_columns and min(shape) > 1:
        raise ShardError(f"{shown!r} is stored by columns: save np.ascontiguousarray of it")
    return NpyHeader(shown, shape[0], shape[1], dtype, counted.position)


class _Counted:
    """`file`, and how far it was read."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self.position = 0

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.position += len(data)
        return data
