"""The Parquet that img2dataset writes beside each tar: what it fetched, and what it could not."""

from typing import Any

from storage.errors import ShardError
from storage.fingerprint import sha256_stream
from storage.parquet import read, read_schema
from storage.receipts import FileFacts, stamp_of
from storage.urls import open_read, redact, stat

_COLUMNS = ("key", "url", "caption", "status", "error_message")


def beside(tar: str) -> tuple[dict[str, dict[str, Any]], tuple[FileFacts, ...]]:
    """Rows by key of the Parquet beside `tar`, and its facts; nothing if there is none of its kind.

    A row has `url`, `caption`, `status` and `error_message` as far as they were written.
    """
    url = tar.removesuffix(".tar") + ".parquet"
    facts = stat(url)
    if facts is None:
        return {}, ()
    names = read_schema(url).names
    if not {"key", "status"} <= set(names):
        return {}, ()
    with open_read(url) as file:
        digest = sha256_stream(file)
    rows: dict[str, dict[str, Any]] = {}
    for table in read(url, [name for name in _COLUMNS if name in names]):
        for row in table.to_pylist():
            rows.setdefault(str(row.pop("key")), row)
    if stat(url) != facts:
        raise ShardError(f"{redact(url)!r} changed while it was read")
    return rows, (FileFacts(url=url, size=facts.size, sha256=digest, stamp=stamp_of(facts)),)
