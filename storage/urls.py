"""Where things are: opening, listing and naming URLs, without ever trusting a cached listing.

Local paths, `s3://`, `gs://` and `memory://` (one process only) are known; each offers
create-if-absent, on which the commit protocol stands, so others are refused.
"""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.config import conf
from fsspec.implementations.local import LocalFileSystem

from storage.errors import ConfigurationError, StoreUnavailable
from storage.redaction import holds_secret, redact_text

PROTOCOLS = {
    "file": "",
    "local": "",
    "memory": "",
    "s3": "s3",
    "gs": "gcs",
    "gcs": "gcs",
}
"""Known protocols, each with the extra that brings its client."""

READERS = 32
"""Threads that wait for an object store at once where many small files are read."""

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What a disk says that takes no more."""

_USER = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"\?.*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Stat:
    """What a store says of a file without opening it."""

    size: int
    """Bytes."""
    changed: float
    """Seconds since the epoch by the store's own clock; only compared within one store."""
    etag: str = ""
    """The store's own mark of the content, empty where there is none."""


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of `url` and the path on it; refuses what cannot commit safely."""
    protocol = url.split("://", 1)[0] if "://" in url else "file"
    if url.startswith("pipe:") or protocol not in PROTOCOLS:
        known = "a local path, s3://, gs:// or memory://"
        raise ConfigurationError(f"cannot use {redact(url)!r}: give {known}")
    if protocol in ("file", "local"):
        return LocalFileSystem(), LocalFileSystem._strip_protocol(url)  # noqa: SLF001
    if holds_secret(url):
        raise ConfigurationError(
            f"{redact(url)!r} was given with a credential in it, which logs and databases would "
            "keep: leave it out, and give it by the environment or a profile"
        )
    try:
        fs, path = fsspec.url_to_fs(url, **_options(protocol))
    except ImportError as error:
        extra = PROTOCOLS[protocol]
        raise ConfigurationError(
            f"{protocol}:// needs an extra: pip install 'nightcap[{extra}]'"
        ) from error
    return fs, path


def _options(protocol: str) -> dict[str, Any]:
    """How a store's client is made: it trusts no old listing, and has room for our readers."""
    if protocol == "memory":
        return {}
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol == "s3":  # 10 connections unless somebody says otherwise
        said = conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = {"max_pool_connections": READERS, **said}
    return options


def is_local(url: str) -> bool:
    """Whether `url` is a path of this machine."""
    return "://" not in url or url.startswith(("file://", "local://"))


def join(base: str, *parts: str) -> str:
    """`base` and `parts` as one URL."""
    return "/".join([base.rstrip("/") or "/", *(part.strip("/") for part in parts)])


def redact(url: str) -> str:
    """`url` without user, password and query, fit for logs, rows and receipts."""
    return url if is_local(url) else _QUERY.sub("", _USER.sub("", url))


def stat(url: str) -> Stat | None:
    """What the store says of the file at `url`, None where there is no such file."""
    fs, path = filesystem(url)
    with translated(url, "read"):
        try:
            info = fs.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
    return None if info["type"] == "directory" else as_stat(info)


def listing(url: str, prefix: str = "") -> dict[str, Stat]:
    """Files directly under `url`, by name in sorted order; empty where there is no such folder.

    Only those whose name begins with `prefix`, which costs less than a listing of them all.
    """
    fs, path = filesystem(url)
    with translated(url, "list"):
        try:
            if isinstance(fs, LocalFileSystem) and Path(path).is_dir():
                return dict(sorted(_scanned(path, prefix)))
            infos = _infos(fs, path, prefix)
        except (FileNotFoundError, NotADirectoryError):
            return {}
    # A key that ends in a slash is the mark of an empty folder, made by consoles.
    files = [info for info in infos if info["type"] == "file" and not info["name"].endswith("/")]
    named = ((_name(info), as_stat(info)) for info in files)
    return dict(sorted((name, facts) for name, facts in named if name.startswith(prefix)))


def _infos(fs: AbstractFileSystem, path: str, prefix: str) -> list[dict[str, Any]]:
    """fsspec's records of what lies directly under `path`; the store itself picks by `prefix`."""
    if not (prefix and fs.async_impl):
        return list(fs.ls(path, detail=True))
    found = fs.find(path, prefix=prefix, detail=True).values()
    return [info for info in found if "/" not in info["name"].removeprefix(path).strip("/")]


def _scanned(folder: str, prefix: str) -> Iterator[tuple[str, Stat]]:
    """Names and facts of the files of a local folder; one that vanishes meanwhile is left out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(prefix):
                continue
            try:
                if entry.is_file():
                    facts = entry.stat()
                    yield entry.name, Stat(facts.st_size, facts.st_mtime)
            except FileNotFoundError:
                continue


def folders(url: str) -> list[str]:
    """Names of the folders directly under `url`, sorted; empty where there is no such folder."""
    fs, path = filesystem(url)
    with translated(url, "list"):
        try:
            infos = fs.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
    return sorted(_name(info) for info in infos if info["type"] == "directory")


def read_bytes(url: str) -> bytes:
    """The whole file; FileNotFoundError where there is none."""
    fs, path = filesystem(url)
    with translated(url, "read"):
        if isinstance(fs, LocalFileSystem):
            with open(path, "rb") as file:  # noqa: PTH123 - half the time of a Path's
                return file.read()
        data: bytes = fs.cat_file(path)
    return data


@contextmanager
def open_read(url: str) -> Iterator[IO[bytes]]:
    """The file at `url` open for reading, seekable."""
    fs, path = filesystem(url)
    with translated(url, "read"), fs.open(path, "rb") as file:
        yield file


def read_range(url: str, start: int, size: int) -> bytes:
    """`size` bytes of the file from `start`, fewer where it ends; nothing else is fetched."""
    fs, path = filesystem(url)
    with translated(url, "read"):
        if isinstance(fs, LocalFileSystem):
            with open(path, "rb") as file:  # noqa: PTH123 - half the time of a Path's
                file.seek(start)
                return file.read(size)
        data: bytes = fs.cat_file(path, start=start, end=start + size)
    return data


@contextmanager
def translated(url: str, verb: str, size: int = 0) -> Iterator[None]:
    """Turn a store's own errors into ours: the user's to mend, or worth a retry.

    `size` is how many bytes were to be written.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError):
        raise
    except StoreUnavailable:
        raise
    except PermissionError as error:
        raise ConfigurationError(f"no permission to {verb} {redact(url)!r}") from error
    except OSError as error:
        raise _store_error(error, url, verb, size) from error
    except _client_errors() as error:
        said = " ".join(redact_text(str(error)).split())
        if _refused(error):
            raise ConfigurationError(f"no permission to {verb} {redact(url)!r}: {said}") from error
        raise StoreUnavailable(f"could not {verb} {redact(url)!r}: {said}") from error


def _client_errors() -> tuple[type[Exception], ...]:
    """Errors of object-store clients that are no OSError, of the clients loaded so far."""
    return (
        *_loaded("botocore.exceptions", "BotoCoreError"),
        *_loaded("aiohttp", "ClientError"),
        *_loaded("gcsfs.retry", "HttpError"),
        *_loaded("gcsfs.retry", "ChecksumError"),
        *_loaded("google.auth.exceptions", "GoogleAuthError"),
    )


def _refused(error: Exception) -> bool:
    """Whether Google's client was not let in: it knows no PermissionError."""
    if isinstance(error, _loaded("gcsfs.retry", "HttpError")):
        return getattr(error, "code", None) in (401, 403)
    if isinstance(error, _loaded("google.auth.exceptions", "TransportError")):
        return False  # the network on the way to a token
    auth = isinstance(error, _loaded("google.auth.exceptions", "GoogleAuthError"))
    return auth and not getattr(error, "retryable", False)


def _loaded(module: str, name: str) -> tuple[type[Exception], ...]:
    """The class if its module is loaded and has it; whoever raises it has loaded it."""
    there = getattr(sys.modules.get(module), name, None)
    return (there,) if there else ()


def _store_error(error: OSError, url: str, verb: str, size: int) -> Exception:
    if error.errno in FULL:
        return ConfigurationError(
            f"no space left to {verb} {redact(url)!r} ({size} bytes): free some and run again"
        )
    if error.errno == errno.EROFS:
        return ConfigurationError(f"cannot {verb} {redact(url)!r}: the file system is read-only")
    if url.startswith(("gs://", "gcs://")) and str(error).startswith("Forbidden: "):
        return ConfigurationError(f"no permission to {verb} {redact(url)!r}")  # gcsfs's 403
    return StoreUnavailable(f"could not {verb} {redact(url)!r}: {redact_text(str(error))}")


def as_stat(info: dict[str, Any]) -> Stat:
    """The facts of an fsspec info record."""
    changed = info.get("mtime", info.get("LastModified", info.get("created", 0.0)))
    seconds = changed.timestamp() if isinstance(changed, datetime) else float(changed)
    return Stat(
        int(info["size"] or 0), seconds, str(info.get("ETag", info.get("etag", ""))).strip('"')
    )


def _name(info: dict[str, Any]) -> str:
    return str(info["name"]).rstrip("/").rsplit("/", 1)[-1]
