"""What a verification has found: every breach in a sentence, every file hashed at most once."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from storage.errors import ConfigurationError, ShardError
from storage.fingerprint import sha256_stream
from storage.layout import Root, ShardName
from storage.receipts import FileFacts, Receipt, Recorded, stem_of
from storage.urls import folders, join, listing, open_read, read_bytes, redact, stat

Made = TypeVar("Made")
_UNREAD = "unread"
_OLDER = "restore it from a copy, or remove all receipts of its shard there and run its stage again"
Report = Callable[[int, int], object]
"""Told now and then how many files and bytes were looked at so far."""


@dataclass(frozen=True, slots=True)
class Breach:
    """One thing that is not as the root itself says."""

    url: str
    what: str
    mend: str

    @property
    def sentence(self) -> str:
        """For people."""
        return f"{self.url}: {self.what}; {self.mend}"


@dataclass(frozen=True, slots=True)
class Mark:
    """What the receipts of one folder must bear."""

    stage: str
    batch: str
    """The first half of their shards' names."""
    fingerprint: Callable[[str], str]
    """By stem; empty for one that nobody knows."""
    mend: str
    swept: bool = False
    """Whether the data of a superseded generation may have been removed."""


@dataclass(slots=True)
class Findings:
    """Breaches, at most one a URL: what follows from a damaged file is not told again."""

    root: Root
    report: Report = lambda _files, _bytes: None
    breaches: dict[str, Breach] = field(default_factory=dict)
    quick: bool = False
    """Believe sizes: no file but the small JSON ones is opened."""
    files: int = 0
    bytes: int = 0
    rows: int = 0
    unfinished: list[str] = field(default_factory=list)
    """Work that was never done: no breach, `nightcap run` goes on with it."""
    _hashed: dict[str, tuple[int, str] | None] = field(default_factory=dict)

    def breach(self, url: str, what: str, mend: str) -> None:
        """Something at `url` is wrong."""
        shown = self.root.relative(url) if url.startswith(self.root.url) else redact(url)
        self.breaches.setdefault(url, Breach(shown, what, mend))

    @contextmanager
    def told(self, url: str, mend: str) -> Iterator[None]:
        """Whatever proves unsound inside the block is a breach of the file at `url`."""
        try:
            yield
        except (ShardError, FileNotFoundError, ConfigurationError) as error:
            self.breach(url, str(error), mend)

    def attempt(self, url: str, mend: str, work: Callable[[], Made]) -> Made | None:
        """What `work` gives, or None if it proves the file at `url` unsound."""
        made = []
        with self.told(url, mend):
            made.append(work())
        return made[0] if made else None

    def sound(self, facts: FileFacts, mend: str) -> bool:
        """Whether the file is there with the size and hash that a receipt names."""
        url = self.root.absolute(facts.url)
        now = self.look(url)
        if now is None:
            self.breach(url, "it is missing", mend)
        elif now[0] != facts.size:
            self.breach(url, f"it has {now[0]} bytes, not the {facts.size} of its receipt", mend)
        elif facts.sha256 and now[1] not in (facts.sha256, _UNREAD):
            self.breach(url, "its bytes are not those of its receipt", mend)
        else:
            return True
        return False

    def receipts(self, folder: str, mark: Mark, beside: str = "") -> dict[str, Recorded]:
        """The newest of the sound receipts in `folder`, by stem; each other one is a breach."""
        by_stem: dict[str, dict[int, Recorded]] = {}
        for name, there in listing(folder).items():
            named = stem_of(name)
            if named is None or name in (beside, "") or name.startswith("."):
                continue
            url = join(folder, name)
            with self.told(url, mark.mend):
                data = read_bytes(url)
                receipt = Receipt.from_bytes(data, url)
                _check_receipt(receipt, data, named, mark)
                facts = FileFacts(url=self.root.relative(url), size=there.size)
                self.sound(facts, mark.mend)
                sha256 = hashlib.sha256(data).hexdigest()
                found = Recorded(receipt, there.changed, name, len(data), sha256)
                by_stem.setdefault(named[0], {})[named[1]] = found
        for stem, generations in by_stem.items():
            if set(generations) != set(range(len(generations))):
                lost = next(n for n in range(len(generations) + 1) if n not in generations)
                self.breach(
                    join(folder, f"{stem} generation {lost}"), "its receipt is missing", mark.mend
                )
            self._check_superseded(folder, generations, mark)
        return {stem: found[max(found)] for stem, found in by_stem.items()}

    def look(self, url: str) -> tuple[int, str] | None:
        """Size and sha256 of the file at `url`, looked at once; None where there is none."""
        if url not in self._hashed:
            self._hashed[url] = self._look(url)
        return self._hashed[url]

    def _check_superseded(self, folder: str, found: dict[int, Recorded], mark: Mark) -> None:
        """Older generations are what the next one was made from, as far as it says so.

        One that names none stands where data was lost or the work was done from other inputs:
        what it came after need not be there. A shard is then cut under the names that it had.
        """
        renewed = {facts.url for facts in found[max(found)].receipt.files}
        for number, older in found.items():
            newer = found.get(number + 1)
            if newer is None:
                continue
            named = newer.receipt.facts.get("supersedes")
            if named not in (None, older.receipt.digest):
                what = "it is not the receipt that the next generation was made from"
                self.breach(join(folder, older.name), what, _OLDER)
            for facts in older.receipt.files:
                if facts.url in renewed:
                    continue
                may_go = mark.swept or named is None
                if not may_go or self.look(self.root.absolute(facts.url)):
                    self.sound(facts, _OLDER)

    def _look(self, url: str) -> tuple[int, str] | None:
        there = stat(url)
        if there is None:
            return None
        self.files += 1
        if self.quick:
            self.report(self.files, self.bytes)
            return there.size, _UNREAD
        self.bytes += there.size
        with open_read(url) as file:
            digest = sha256_stream(file)
        self.report(self.files, self.bytes)
        return there.size, digest


def _check_receipt(receipt: Receipt, data: bytes, named: tuple[str, int], mark: Mark) -> None:
    stem, generation = named
    shard = str(ShardName(mark.batch, stem))
    problems = {
        "it is not written as Nightcap writes receipts": receipt.to_bytes() != data,
        f"it is the receipt of {receipt.shard!r}, not of {shard!r}": receipt.shard != shard,
        f"it is of generation {receipt.generation}": receipt.generation != generation,
        f"it is of the stage {receipt.stage!r}, not {mark.stage!r}": receipt.stage != mark.stage,
        "it was made with other settings than stand here": receipt.fingerprint
        != mark.fingerprint(stem),
    }
    for problem, true in problems.items():
        if true:
            raise ShardError(problem)


def files_below(url: str) -> Iterator[str]:
    """URLs of every file below a folder that is not hidden."""
    for name in listing(url):
        if not name.startswith("."):
            yield join(url, name)
    for folder in folders(url):
        if not folder.startswith("."):
            yield from files_below(join(url, folder))
