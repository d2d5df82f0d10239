"""Single pictures out of tars, read by range where they lie: nothing is unpacked.

A tar's headers are walked once, then its members are found by their place. Every picture is
proved by the hash that its row names, so a changed tar can never show another picture.
"""

import hashlib
import tarfile
import threading
from collections import OrderedDict
from typing import IO

from storage.errors import ShardError, StorageError
from storage.layout import Root, ShardName
from storage.shards import ShardStore, tar_of
from storage.sources.tree import PICTURES, ending
from storage.tar_reader import split_name
from storage.tar_stream import ODD
from storage.urls import open_read, read_range, redact, stat

TARS = 32
"""Tars whose members' places are remembered: some 1.5 MB each for 10,000 pictures."""
Places = dict[str, tuple[int, int]]
"""First byte and size by key."""


class Pictures:
    """The pictures of a root's shards; safe to be asked by several threads."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._known: OrderedDict[str, tuple[str, Places]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, shard: str, key: str, sha256: str | None) -> bytes:
        """The picture as stored; ShardError, fit to be shown, if it cannot be had."""
        url, places = self._tar(shard)
        if key not in places:
            raise ShardError(f"its tar {redact(url)!r} holds no picture {key!r}")
        try:
            data = read_range(url, *places[key])
        except FileNotFoundError as error:
            self._forget(shard)
            raise ShardError(f"its tar {redact(url)!r} is gone") from error
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            self._forget(shard)
            raise ShardError(f"its tar {redact(url)!r} holds another picture under its key now")
        return data

    def _tar(self, shard: str) -> tuple[str, Places]:
        with self._lock:
            if shard not in self._known:
                self._known[shard] = self._look(shard)
                while len(self._known) > TARS:
                    self._known.popitem(last=False)
            self._known.move_to_end(shard)
            return self._known[shard]

    def _forget(self, shard: str) -> None:
        with self._lock:
            self._known.pop(shard, None)

    def _look(self, shard: str) -> tuple[str, Places]:
        receipt = ShardStore(self._root).receipt(ShardName.parse(shard))
        if receipt is None:
            raise ShardError(f"no tar of shard {shard} is under the root")
        url = self._root.absolute(tar_of(receipt).url)
        if stat(url) is None:
            raise ShardError(f"its tar {redact(url)!r} is gone")
        try:
            with open_read(url) as file:
                return url, _places(file)
        except (tarfile.TarError, *ODD) as error:
            if isinstance(error, StorageError):
                raise
            raise ShardError(f"its tar {redact(url)!r} is damaged: {error}") from error


def _places(file: IO[bytes]) -> Places:
    """Where each key's first picture lies, told from the headers alone."""
    found: Places = {}
    tar = tarfile.TarFile(fileobj=file, mode="r", encoding="utf-8", errors="surrogateescape")
    while info := tar.next():
        tar.members.clear()  # type: ignore[attr-defined]
        if info.isreg() and not info.issparse() and ending(info.name) in PICTURES:
            found.setdefault(split_name(info.name)[0], (info.offset_data, info.size))
    return found
