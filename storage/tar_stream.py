"""The members of a tar in one pass, and TarError unless the whole file is one sound tar.

`tarfile` alone ends in silence at a damaged header, at a cut between members, and where a second
tar begins. Here the end must be the closing zero blocks, followed by nothing else.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from typing import IO

from storage.errors import TarError

BLOCK = 512
HEADER_LIMIT = 1 << 24
"""Bytes a header may take; long names need a few hundred."""
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
ODD = (ValueError, KeyError, IndexError, OverflowError, RecursionError)
"""What tarfile lets through on headers made to hurt."""


class TarStream:
    """The tar in `file` (any position counts as its start), called `name` in errors."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._forward = _Forward(file)
        self._name = name

    @property
    def size(self) -> int:
        """Bytes read so far: the whole file once `members` has ended."""
        return self._forward.position

    @property
    def sha256(self) -> str:
        """Hash of the bytes read so far: the whole file once `members` has ended."""
        return self._forward.digest.hexdigest()

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Headers in order; the one given last may be `read` before the next is asked for."""
        try:
            tar = tarfile.TarFile(
                fileobj=self._forward,  # type: ignore[arg-type]
                mode="r",
                encoding="utf-8",
                errors="surrogateescape",
            )
            while info := tar.next():
                tar.members.clear()  # type: ignore[attr-defined]
                if info.size < 0:
                    raise self._bad(f"member {info.name!r} claims {info.size} bytes")
                yield info
            self._check_end()
        except (tarfile.TarError, *ODD) as error:
            raise self._bad(str(error) or "its headers make no sense") from error

    def read(self, info: tarfile.TarInfo) -> bytes:
        """The bytes of the member that `members` gave last."""
        self._forward.seek(info.offset_data)
        data = self._forward.take(info.size + -info.size % BLOCK)  # what fills the last block too
        if len(data) < info.size:
            raise self._bad(f"it ends inside member {info.name!r}")
        return data[: info.size]

    def _check_end(self) -> None:
        last = self._forward.last
        if last is None or not last:
            raise self._bad("it is empty" if not self.size else "it is cut: no closing blocks")
        if len(last) < BLOCK:
            raise self._bad("it is cut inside a header")
        if any(last):
            raise self._bad(f"the header at byte {self.size - BLOCK} is damaged")
        zeros = 0
        while tail := self._forward.take(1 << 20):
            if tail.strip(b"\0"):
                raise self._bad("something follows its end: another tar, or a damaged header")
            zeros += len(tail)
        if zeros < BLOCK:
            raise self._bad("it is cut inside its closing blocks")

    def _bad(self, why: str) -> TarError:
        head = self._forward.head
        why = check_head(head) or why if self.size <= len(head) else why
        return TarError(f"{self._name!r}: {why}")


class _Forward:
    """A file that is read once from front to back, hashed on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.position = 0
        self.digest = hashlib.sha256()
        self.head = b""
        self.last: bytes | None = None

    def tell(self) -> int:
        return self.position

    def seek(self, position: int) -> None:
        if position < self.position:
            raise tarfile.ReadError("a header points backwards")
        while self.position < position:
            if not self.take(min(position - self.position, 1 << 20)):
                raise tarfile.ReadError("it is cut inside a member")

    def read(self, size: int) -> bytes:
        """For tarfile, which reads nothing but headers."""
        if not 0 <= size <= HEADER_LIMIT:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        self.last = self.take(size)
        return self.last

    def take(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end of the file."""
        data = self._file.read(size) if size > 0 else b""
        if 0 < len(data) < size:  # a store may give less than was asked for
            data = b"".join([data, *self._more(size - len(data))])
        self.digest.update(data)
        self.position += len(data)
        self.head = self.head or data[:BLOCK]
        return data

    def _more(self, size: int) -> Iterator[bytes]:
        while size > 0 and (part := self._file.read(size)):
            yield part
            size -= len(part)


def check_head(head: bytes) -> str:
    """Why a file that begins with `head` (512 bytes or all) is no tar; empty if it may be."""
    packed = next((kind for magic, kind in _PACKED.items() if head.startswith(magic)), "")
    if packed:
        return f"is compressed ({packed}): unpack it to a plain .tar first"
    if not head:
        return "is empty (0 bytes)"
    if not any(head):
        return ""  # the closing blocks of a tar without members
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return "is not a tar"
    return ""
