"""The small JSON that says a shard's output is complete, and the rule that decides "done".

A receipt is written last, by create-if-absent, and never changes. A shard is done only if its
newest receipt parses, bears the right fingerprint, and its inputs are still what it names. No
clock stands in a receipt: a file of ours that changed after the receipt that names it is told by
the store's own times, and then compared by its hash.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from storage.ahead import ahead
from storage.commit import create, remove, replace
from storage.errors import CommitConflict, ReceiptError
from storage.fingerprint import fingerprint, sha256_stream
from storage.urls import (
    READERS,
    Stat,
    is_local,
    join,
    listing,
    open_read,
    read_bytes,
    redact,
    stat,
)

FORMAT = 1
_NAME = re.compile(r"(?P<stem>.+?)(?:\.g(?P<generation>[1-9]\d*))?\.json")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """One file as it was when it was read or written."""

    url: str
    """Relative to the root, or absolute for a file that is not ours."""
    size: int
    sha256: str = ""
    """Empty for a foreign file of which only a part was read."""
    stamp: str = ""
    """A foreign file's etag or modification time, by which a change is told; empty for ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What one stage made of one shard."""

    stage: str
    shard: str
    """`<batch>/<stem>`."""
    fingerprint: str
    rows: int
    failures: dict[str, int] = field(default_factory=dict)
    """Rows that failed, by error code."""
    files: tuple[FileFacts, ...] = ()
    inputs: tuple[FileFacts, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    """Counts of the stage's own."""
    generation: int = 0
    """0 first; a higher one supersedes."""

    def to_bytes(self) -> bytes:
        """JSON with a digest of itself."""
        body = {"format": FORMAT, **asdict(self)}
        body["digest"] = fingerprint(body)
        return (json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "receipt") -> "Receipt":
        """The receipt again; ReceiptError if it is cut, edited or of another format."""
        try:
            body = json.loads(data)
            digest = body.pop("digest")
            genuine = body.pop("format") == FORMAT and digest == fingerprint(
                {"format": FORMAT, **body}
            )
            files, inputs = (
                tuple(FileFacts(**facts) for facts in body.pop(part))
                for part in ("files", "inputs")
            )
            receipt = cls(files=files, inputs=inputs, **body)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ReceiptError(f"{redact(name)!r} is not a receipt: {error}") from error
        if not genuine:
            raise ReceiptError(f"{redact(name)!r} was edited or is of another version")
        return receipt

    @property
    def digest(self) -> str:
        """Hash of the whole receipt: what comes after names it to say what it was made from."""
        return fingerprint({"format": FORMAT, **asdict(self)})


@dataclass(frozen=True, slots=True)
class Recorded:
    """A receipt as it lies in the store."""

    receipt: Receipt
    changed: float
    """When the store took it, by the store's clock."""
    name: str
    """Of its file."""
    size: int
    """Bytes of its file."""
    sha256: str
    """Of its file."""


def receipt_name(stem: str, generation: int = 0) -> str:
    """`00000.json`, then `00000.g1.json`, …"""
    return f"{stem}.json" if generation == 0 else f"{stem}.g{generation}.json"


def stem_of(name: str) -> tuple[str, int] | None:
    """Stem and generation of the receipt called `name`; None for a name that is none."""
    match = _NAME.fullmatch(name)
    return (match["stem"], int(match["generation"] or 0)) if match else None


def recorded(folder: str, stem: str) -> Recorded | None:
    """The newest receipt of `stem` under `folder`; None if there is none that parses."""
    files = listing(folder, f"{stem}.")
    return _newest(folder, _by_stem(files).get(stem, []))


def recorded_all(folder: str, beside: str = "") -> dict[str, Recorded]:
    """The newest receipt of every stem under `folder`, by stem, from one listing.

    Those in an object store are read many at a time. `beside` names a file there that is none.
    """
    files = listing(folder)
    files.pop(beside, None)
    by_stem = _by_stem(files)
    newest = partial(_newest, folder)
    found = ahead(newest, by_stem.values(), 0 if is_local(folder) else READERS)
    return {stem: record for stem, record in zip(by_stem, found, strict=True) if record}


def _by_stem(files: Mapping[str, Stat]) -> dict[str, list[tuple[int, str, Stat]]]:
    """(generation, name, facts) of what may be a receipt, in the order of `files`."""
    by_stem: dict[str, list[tuple[int, str, Stat]]] = {}
    for name, facts in files.items():
        if named := stem_of(name):
            by_stem.setdefault(named[0], []).append((named[1], name, facts))
    return by_stem


def _newest(folder: str, generations: Iterable[tuple[int, str, Stat]]) -> Recorded | None:
    for _, name, facts in sorted(generations, reverse=True):
        try:
            data = _receipt_bytes(url := join(folder, name))
            digest = hashlib.sha256(data).hexdigest()
            receipt = Receipt.from_bytes(data, url)
            return Recorded(receipt, facts.changed, name, len(data), digest)
        except ReceiptError as error:
            _log.warning("%s: counted as absent", error)
    return None


def read_receipt(url: str) -> Receipt:
    """The receipt at `url`."""
    return Receipt.from_bytes(_receipt_bytes(url), url)


def _receipt_bytes(url: str) -> bytes:
    try:
        return read_bytes(url)
    except FileNotFoundError as error:
        raise ReceiptError(f"{redact(url)!r} is missing") from error


def commit_receipt(folder: str, stem: str, receipt: Receipt) -> Receipt:
    """Make `receipt` the record of its shard, or yield to the one that is there first.

    Returns the receipt that stands. Equal content is success, also when our own reply was lost;
    the same work with other float bits (GPU kernels) lets the first stand and removes our data;
    anything else is a CommitConflict.
    """
    url = join(folder, receipt_name(stem, receipt.generation))
    if create(url, receipt.to_bytes()):
        return receipt
    try:
        standing = read_receipt(url)
    except ReceiptError:
        replace(url, receipt.to_bytes())  # torn: nobody may have believed it
        return receipt
    if standing.digest == receipt.digest:
        return standing
    if not _same_work(standing, receipt):
        raise CommitConflict(
            f"{redact(url)!r}: another writer committed other content for shard {receipt.shard}; "
            "is another configuration writing to the same root?"
        )
    _log.warning("%s was committed first by another worker with other float bits", receipt.shard)
    ours = {file.url for file in receipt.files} - {file.url for file in standing.files}
    for name in sorted(ours):
        remove(join(folder, name.rsplit("/", 1)[-1]))
    return standing


def unchanged(facts: FileFacts, url: str, since: float, now: Stat | None = None) -> bool:
    """Whether the file at `url` is still as `facts` say; `since` is when their receipt was taken.

    `now` spares a look. A hash is computed only if the file was touched after the receipt.
    """
    now = now or stat(url)
    if now is None or now.size != facts.size:
        return False
    if facts.stamp and facts.stamp == stamp_of(now):
        return True
    if not facts.stamp and now.changed <= since:
        return True
    if not facts.sha256:
        return False
    with open_read(url) as file:
        return sha256_stream(file) == facts.sha256


def same_inputs(named: tuple[FileFacts, ...], now: tuple[FileFacts, ...]) -> bool:
    """Whether a receipt names what is offered; what has no hash yet is looked at afterwards."""
    return len(named) == len(now) and all(
        there == here if here.sha256 else there.url == here.url
        for there, here in zip(named, now, strict=True)
    )


def stamp_of(facts: Stat) -> str:
    """What a foreign file's change is told by: its etag, or else its modification time."""
    return facts.etag or f"{facts.changed:.6f}"


def _same_work(one: Receipt, other: Receipt) -> bool:
    def work(receipt: Receipt) -> tuple[object, ...]:
        return (receipt.stage, receipt.shard, receipt.fingerprint, receipt.rows, receipt.inputs)

    return work(one) == work(other)
