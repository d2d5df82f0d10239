"""Names for exported files that cannot leave their folder, hide, or clash on any file system.

What a picture is called comes from strangers: a path, or the key of a tar.
"""

import hashlib
import re
import unicodedata

from storage.layout import ShardName
from storage.sources.tree import PICTURES, ending
from storage.tar_writer import member_ending

LONGEST = 120
"""Bytes of one part of a name: room is left for a mark, an ending, and eCryptfs' limit of 143."""
PARTS = 32
"""Folders of a name; more are joined."""
_ODD = re.compile(r'[<>:"|?*\\~]')
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)")
_USUAL = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_-]{0,99}/){0,20}[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
"""Most names: they need no further look unless a part is a device's."""
_DEVICE_INSIDE = re.compile(r"(?i)(?:^|/)(?:con|prn|aux|nul|com\d|lpt\d)(?:/|$)")
_FOLDER_ENDINGS = PICTURES | {".txt", ".json", ".jsonl", ".npz"}


def path_name(path: str | None, shard: str, key: str) -> str:
    """A relative name without its ending, near to the picture's own path."""
    if not path:
        return key_name(shard, key)
    return _joined(_without_ending(path))


def key_name(shard: str, key: str) -> str:
    """`<batch>/<stem>/<key>`, made safe."""
    name = ShardName.parse(shard)
    return _joined(f"{name.batch}/{name.stem}/{key}")


def member_name(key: str) -> str:
    """`key` as the key of a webdataset sample, which ends at the first dot of its last part."""
    folder, slash, last = _joined(key).rpartition("/")
    return f"{folder}{slash}{last.replace('.', '_')}"


def folded(name: str) -> str:
    """Equal for names that some file system takes for one: case and composition aside."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def picture_ending(row: dict[str, object]) -> str:
    """The ending of the exported picture, without its dot."""
    path, kind = row["path"] or row["key"], row["format"]
    return member_ending(str(path), str(kind) if kind else None).lower()


def _without_ending(path: str) -> str:
    own = ending(path)
    return path[: -len(own)] if own in PICTURES else path


def _joined(name: str) -> str:
    """`name` with every part made safe; never empty, absolute or climbing."""
    if _USUAL.fullmatch(name) and not _DEVICE_INSIDE.search(name):
        return name
    parts = [part for part in name.split("/") if part not in ("", ".")] or ["_"]
    if len(parts) > PARTS:
        parts = [*parts[: PARTS - 1], "_".join(parts[PARTS - 1 :])]
    *folders, last = map(_safe, parts)
    return "/".join([*map(_no_file, folders), last])


def _safe(part: str) -> str:
    # Controls go, among them those that turn the reading direction.
    kept = "".join(sign if sign.isprintable() else "_" for sign in part)
    kept = _ODD.sub("_", kept)
    kept = re.sub(r"^[.\s]+|^(?=-)", "_", kept)  # no hidden file, no option of a command
    kept = re.sub(r"^__+(?=.)", "_", kept)  # names that `datasets` and webdataset pass over
    kept = re.sub(r"[.\s]+$", "_", kept)
    return _short(_DEVICES.sub(r"_\1", kept, count=1) if _DEVICES.match(kept) else kept)


def _short(part: str) -> str:
    data = part.encode()
    if len(data) <= LONGEST:
        return part
    digest = hashlib.blake2b(data, digest_size=6).hexdigest()
    return f"{data[:LONGEST].decode('utf-8', 'ignore')}_{digest}"


def _no_file(folder: str) -> str:
    """A folder that is not called like a file, which may stand beside it under the same name."""
    own = ending(folder)
    return f"{folder[: -len(own)]}_{own[1:]}" if own in _FOLDER_ENDINGS else folder
