"""Names under a root: which folder holds what, and how runs, shards and encoders are called."""

import re
from dataclasses import dataclass

from storage.errors import ConfigurationError
from storage.urls import filesystem, folders, join, listing, redact

PARTS = (
    *("shards", "embeddings", "models", "captions", "quarantine", "curations", "duplicates"),
    "edits",
)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


@dataclass(frozen=True, slots=True, order=True)
class ShardName:
    """`<batch>/<stem>`: the same shard in every stage."""

    batch: str
    stem: str

    def __str__(self) -> str:
        return f"{self.batch}/{self.stem}"

    @classmethod
    def parse(cls, name: str) -> "ShardName":
        """From `<batch>/<stem>`."""
        batch, _, stem = name.partition("/")
        return cls(batch, stem)


@dataclass(frozen=True, slots=True)
class Root:
    """A URL under which everything derived lies."""

    url: str

    def shards(self, batch: str) -> str:
        """Folder of one ingest: plan, tars, indexes and their receipts."""
        return join(self.url, "shards", batch)

    def embeddings(self, space: str, batch: str) -> str:
        """Folder of one batch's embeddings; `space` is `<encoder>-<fp8>`."""
        return join(self.url, "embeddings", space, batch)

    def space(self, space: str) -> str:
        """Folder of all embeddings by one encoder and configuration."""
        return join(self.url, "embeddings", space)

    def model(self, name: str, version: str = "") -> str:
        """Folder of a model's versions, or of one."""
        return join(self.url, "models", name, *([version] if version else []))

    def run(self, run: str) -> str:
        """Folder of one set of captions."""
        return join(self.url, "captions", run)

    def captions(self, run: str, batch: str) -> str:
        """Folder of one batch's captions."""
        return join(self.url, "captions", run, batch)

    def edits(self, run: str) -> str:
        """Folder of what reviewers decided about a run's captions."""
        return join(self.url, "edits", run)

    def batches(self) -> list[str]:
        """Every ingest begun under this root, in order of name."""
        return folders(join(self.url, "shards"))

    def relative(self, url: str) -> str:
        """`url` as seen from the root if it lies below, else redacted."""
        inside = url.removeprefix(self.url.rstrip("/") + "/")
        return inside if inside != url else redact(url)

    def absolute(self, name: str) -> str:
        """What `relative` was made from."""
        outside = "://" in name or name.startswith("/")
        return name if outside else join(self.url, name)


def open_root(url: str) -> Root:
    """The root at `url`, which may be new; ConfigurationError if something else lies there."""
    fs, path = filesystem(url)
    root = Root(fs.unstrip_protocol(path) if "://" in url and not url.startswith("file") else path)
    # Hidden files are let be: our lock, what a killed writer left, a desktop's own marks.
    strangers = {name for name in listing(root.url) if not name.startswith(".")}
    strangers |= set(folders(root.url)) - set(PARTS)
    if strangers:
        raise ConfigurationError(
            f"{redact(url)!r} holds something else ({min(strangers)!r}): "
            "give an empty or new folder as ROOT"
        )
    return root


def plain_name(name: str, what: str) -> str:
    """`name` if it can be a folder's name everywhere; ConfigurationError otherwise."""
    if not _PLAIN.fullmatch(name):
        raise ConfigurationError(
            f"{what} {name!r} cannot name a folder: use letters, digits, '.', '_', '-'"
        )
    return name


def safe_name(name: str) -> str:
    """`name` made fit for a folder: what is not plain becomes `-`, and 96 characters are enough."""
    return re.sub(r"[^A-Za-z0-9._+]+", "-", name).strip("-._+")[:96] or "unnamed"
