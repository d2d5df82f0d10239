"""Folders and files below one URL, seen one folder at a time and read without surprises.

Names go by their path, never through URL parsing or globbing, so `a[1]::b.jpg` is only a name. A
local name that is not UTF-8 is shown with `\\xff` escapes and still found by them.
"""

import errno
import os
import re
import stat as modes
from pathlib import Path
from typing import NamedTuple

from storage.errors import ConfigurationError
from storage.receipts import stamp_of
from storage.urls import as_stat, filesystem, is_local, join, open_read, redact, translated

PICTURES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
    | {".heic", ".heif"}
)
"""Endings by which a picture is known, in lower case."""

GONE = "there is no such file"
"""Why a picture has no bytes that was listed and is not there any more."""
_NO_FILE = {errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO, errno.EISDIR}


_DENIED = {"", "AccessDenied", "Forbidden", "403"}
"""What a store says that keeps one picture from us; other refusals are about who we are."""


class Entry(NamedTuple):
    """A name in a folder."""

    name: str
    kind: str
    """`file`, `folder`, `gone` (a link to nothing) or `special` (a device, a pipe)."""
    size: int
    stamp: str


class Tree:
    """What lies below `url`; paths are relative to it."""

    def __init__(self, url: str) -> None:
        self.local = is_local(url)
        self._fs, self._top = filesystem(url)
        self.url = self._top if self.local else str(self._fs.unstrip_protocol(self._top))

    def full(self, path: str) -> str:
        """`path` on its file system."""
        whole = f"{self._top.rstrip('/')}/{path}".rstrip("/") if path else self._top
        if self.local and "\\x" in path and not os.path.lexists(whole):
            return os.fsdecode(_unescape(whole))
        return whole or "/"

    def shown(self, path: str) -> str:
        """URL of `path` without secrets."""
        url = join(self.url, path) if path else self.url
        return url if self.local else redact(url)

    def kind(self, path: str) -> str:
        """`folder`, `file`, or empty where there is nothing."""
        with translated(self.shown(path), "read"):
            try:
                info = self._fs.info(self.full(path))
            except (FileNotFoundError, NotADirectoryError):
                return ""
        return "folder" if info["type"] == "directory" else str(info["type"])

    def real(self, path: str) -> str:
        """`path` with links resolved, so that a loop of links shows."""
        return str(Path(self.full(path)).resolve()) if self.local else self.full(path)

    def is_bare(self) -> bool:
        """Whether nothing is left: a mount that was lost leaves no folder, or an empty one."""
        if not self.local:
            return False
        try:
            with os.scandir(self.full("")) as found:
                return next(found, None) is None
        except (FileNotFoundError, NotADirectoryError):
            return True

    def entries(self, folder: str) -> list[Entry]:
        """What lies directly in `folder`, sorted; nothing if it went away meanwhile."""
        with translated(self.shown(folder), "list"):
            try:
                return self._local(folder) if self.local else self._remote(folder)
            except (FileNotFoundError, NotADirectoryError):
                return []

    def read(self, path: str) -> bytes:
        """The file's bytes; FileNotFoundError says why this one has none to give.

        ConfigurationError if a store wants other credentials: no picture could be read then.
        """
        with translated(self.shown(path), "read"):
            try:
                return self._bytes(self.full(path))
            except (PermissionError, ValueError) as error:
                if (code := _refusal(error)) not in _DENIED:
                    raise ConfigurationError(
                        f"{self.shown(path)!r} cannot be read ({code}): renew the credentials"
                    ) from error
                denied = isinstance(error, PermissionError)
                why = "no permission to read it" if denied else "its name is not possible here"
                raise FileNotFoundError(why) from error
            except OSError as error:
                if isinstance(error, FileNotFoundError | NotADirectoryError):
                    raise FileNotFoundError(GONE) from error
                if error.errno in _NO_FILE:
                    raise FileNotFoundError("it is no regular file") from error
                raise

    def head(self, path: str) -> bytes:
        """The first 512 bytes of a file, or as many as it has."""
        with open_read(join(self.url, path)) as file:
            return file.read(512)

    def _bytes(self, full: str) -> bytes:
        if not self.local:
            data: bytes = self._fs.cat_file(full)
            return data
        if not modes.S_ISREG(Path(full).stat().st_mode):
            raise OSError(errno.EISDIR, "not a regular file")
        return Path(full).read_bytes()

    def _local(self, folder: str) -> list[Entry]:
        with os.scandir(self.full(folder)) as found:
            return sorted(_local_entry(entry) for entry in found)

    def _remote(self, folder: str) -> list[Entry]:
        full = self.full(folder)
        found = []
        for info in self._fs.ls(full, detail=True):
            name = str(info["name"]).rstrip("/")
            if name.strip("/") == full.strip("/"):
                continue  # an object store's marker for the folder itself
            facts = as_stat(info)
            kind = "folder" if info["type"] == "directory" else "file"
            found.append(Entry(name.rsplit("/", 1)[-1], kind, facts.size, stamp_of(facts)))
        return sorted(found)


def _refusal(error: BaseException) -> str:
    """The code by which an S3 store refused; empty for a file system's refusal."""
    reply = getattr(error.__cause__, "response", None) or {}
    return str(reply.get("Error", {}).get("Code", ""))


def ending(name: str) -> str:
    """The last ending in lower case, `.jpg`; empty if there is none."""
    stem, dot, last = name.rsplit("/", 1)[-1].rpartition(".")
    return f".{last.lower()}" if dot and stem else ""


def _local_entry(entry: "os.DirEntry[str]") -> Entry:
    name = entry.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    try:
        facts = entry.stat()
    except OSError:
        return Entry(name, "gone", 0, "")
    kinds = {modes.S_IFDIR: "folder", modes.S_IFREG: "file"}
    kind = kinds.get(modes.S_IFMT(facts.st_mode), "special")
    return Entry(name, kind, facts.st_size, f"{facts.st_mtime:.6f}")


def _unescape(shown: str) -> bytes:
    raw = shown.encode()
    return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), raw)
