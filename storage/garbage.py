"""What lies under a root and is of no use: left by killed writers, or named by no receipt.

Nothing that any receipt names is ever listed, of whatever generation; where a receipt or plan
cannot be read, everything beside it is let be. What is younger than an age limit may still be
somebody's half-made work. Ages are told by the store's own clock.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from storage.commit import PARTIAL, remove
from storage.errors import ConfigurationError, ReceiptError
from storage.layout import PARTS, Root
from storage.plan_file import FILE, find_plan
from storage.receipts import FileFacts, read_receipt, stem_of
from storage.uploads import abandon, uploads
from storage.urls import Stat, folders, is_local, join, listing, stat

KINDS = {
    "partial": "half-written file",
    "data": "data that no receipt names",
    "plan": "plan rows that no plan names",
    "checkpoint": "checkpoint of a model that is done",
    "upload": "upload that was never completed",
}
"""Kinds of garbage, as people call them."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """One thing to remove."""

    kind: str
    url: str
    size: int
    """Bytes; 0 for an upload, which does not tell."""
    changed: float
    """By the store's clock."""
    upload: str = ""
    """Id of an upload; empty for a file."""


def garbage(root: Root, older_than: float, now: float) -> list[Garbage]:
    """What may go: older than so many seconds at `now`, a time of the store's clock."""
    found = [*_partials(root), *_data(root), *_plans(root), *_checkpoints(root), *_uploads(root)]
    return [one for one in found if now - one.changed > older_than]


def take_away(found: Iterable[Garbage]) -> None:
    """Remove what `garbage` found; what is gone already is no error."""
    for one in found:
        if one.upload:
            abandon(one.url, one.upload)
        else:
            remove(one.url)


def _partials(root: Root) -> Iterator[Garbage]:
    waiting = [root.url]
    if is_local(root.url):  # an object store shows no file of a run before it is whole
        waiting += [join(root.url, part) for part in PARTS]
    while waiting:
        folder = waiting.pop()
        for name, facts in listing(folder).items():
            if PARTIAL.fullmatch(name):
                yield Garbage("partial", join(folder, name), facts.size, facts.changed)
        if folder != root.url:
            waiting += [join(folder, name) for name in folders(folder)]


def _data(root: Root) -> Iterator[Garbage]:
    for part in ("embeddings", "captions"):
        for space in folders(join(root.url, part)):
            for batch in folders(join(root.url, part, space)):
                yield from _unnamed(root, join(root.url, part, space, batch))


def _unnamed(root: Root, folder: str) -> Iterator[Garbage]:
    files = listing(folder)
    try:
        named = {file.url for name in files if stem_of(name) for file in _named(folder, name)}
    except ReceiptError:
        return  # it may name anything: `nightcap verify` tells of it
    for name, facts in files.items():
        url = join(folder, name)
        if name.endswith(".parquet") and root.relative(url) not in named:
            yield _file("data", url, facts)


def _named(folder: str, name: str) -> Iterator[FileFacts]:
    yield from read_receipt(join(folder, name)).files


def _plans(root: Root) -> Iterator[Garbage]:
    for batch in root.batches():
        folder = root.shards(batch)
        files = listing(folder)
        try:
            plan = find_plan(root, batch)
        except ConfigurationError:
            continue
        if plan is None and FILE in files:
            continue
        kept = plan.data if plan else ""
        for name, facts in files.items():
            if name.startswith("plan-") and name.endswith(".parquet") and name != kept:
                yield _file("plan", join(folder, name), facts)


def _checkpoints(root: Root) -> Iterator[Garbage]:
    """Those of a version that has its receipt: a training that was cut still needs its own."""
    for name in folders(join(root.url, "models")):
        for version in folders(root.model(name)):
            if stat(join(root.model(name), f"{version}.json")) is None:
                continue
            folder = join(root.model(name, version), "checkpoints")
            for file, facts in listing(folder).items():
                if not PARTIAL.fullmatch(file):
                    yield _file("checkpoint", join(folder, file), facts)


def _uploads(root: Root) -> Iterator[Garbage]:
    for one in uploads(root.url):
        yield Garbage("upload", one.url, 0, one.begun, one.id)


def _file(kind: str, url: str, facts: Stat) -> Garbage:
    return Garbage(kind, url, facts.size, facts.changed)
