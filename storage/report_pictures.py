"""A few pictures out of many tars, by their headers alone: the bytes between are skipped.

Each is proved by its hash. What cannot be had (a tar that is gone, changed or too far away) is
left out and told; a page of pictures is no reason to fail.
"""

import hashlib
import re
import tarfile
from collections.abc import Iterable, Iterator
from typing import IO

from storage.errors import ConfigurationError, StorageError
from storage.layout import Root, ShardName
from storage.report_sheet import Row, identity
from storage.shards import ShardStore, tar_of
from storage.sources.tree import PICTURES, ending
from storage.tar_stream import ODD
from storage.urls import is_local, open_read

FAR_BYTES = 2_000_000_000
"""How large the tars in an object store may be together that are looked through."""
MAX_BYTES = 50_000_000
"""Larger pictures are not loaded for a thumbnail."""
_KEY = re.compile(r"((?:.*/|)[^.]+)[.][^/]*", re.DOTALL)

Found = tuple[tuple[str, str], bytes | None, str]
"""Identity of a row; its picture, or None and the reason."""


def pictures_of(root: Root, rows: Iterable[Row]) -> Iterator[Found]:
    """The pictures of the rows, one at a time, shard by shard."""
    by_shard: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_shard.setdefault(row["shard"], {})[row["key"]] = row
    store, left = ShardStore(root), FAR_BYTES
    for shard, wanted in sorted(by_shard.items(), key=lambda one: (-len(one[1]), one[0])):
        reason = "not in its tar any more"
        try:
            receipt = store.receipt(ShardName.parse(shard))
            if receipt is None:
                reason = "no tar of this shard is under the root"
            else:
                facts = tar_of(receipt)
                url = root.absolute(facts.url)
                left -= 0 if is_local(url) else facts.size
                if left >= 0:
                    yield from _in_tar(url, wanted)
                else:
                    reason = "its tar is too far away to be read for this page"
        except FileNotFoundError:
            reason = "its tar is missing"
        except (StorageError, ConfigurationError):
            reason = "its tar could not be read"
        yield from ((identity(row), None, reason) for row in wanted.values())


def _in_tar(url: str, wanted: dict[str, Row]) -> Iterator[Found]:
    """Those of `wanted` that are in the tar, which are taken out of it."""
    with open_read(url) as file:
        for name, size in _members(file):
            match = _KEY.fullmatch(name)
            row = wanted.get(match[1]) if match and ending(name) in PICTURES else None
            if row is None or not 0 <= size <= MAX_BYTES:
                continue
            data = file.read(size)
            if hashlib.sha256(data).hexdigest() == row["sha256"]:
                del wanted[row["key"]]
                yield identity(row), data, ""
            if not wanted:
                return


def _members(file: IO[bytes]) -> Iterator[tuple[str, int]]:
    """Name and size of each plain member, `file` standing at its bytes; a damage ends it."""
    try:
        tar = tarfile.TarFile(fileobj=file, mode="r", encoding="utf-8", errors="surrogateescape")
        while info := tar.next():
            tar.members.clear()  # type: ignore[attr-defined]
            if info.isreg() and not info.issparse():
                file.seek(info.offset_data)
                yield info.name, info.size
    except (tarfile.TarError, *ODD):
        return
