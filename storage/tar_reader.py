"""Samples from a tar, grouped as webdataset groups them, with nothing lost in silence.

Every key becomes a sample, sound or with a problem; every member is part of one or is counted.
Only pictures, captions (`.txt`, `.caption`, `.text`) and `.json` are read: never a pickle.
"""

import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import IO, Any

from storage.errors import TarError
from storage.sources.item import clean_captions
from storage.sources.tree import PICTURES, ending
from storage.tar_stream import TarStream

MAX_BYTES = 200_000_000
"""Larger pictures are not loaded."""
MAX_TEXT = 1 << 24
CAPTIONS = (".txt", ".caption", ".text")
_KEY = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
"""webdataset's rule: the key ends at the first dot of the last component."""
_USUAL = re.compile(r"((?!__)[A-Za-z0-9_-]{1,128})\.([A-Za-z0-9.]{1,64})")
"""Most names: key and endings of one that needs no further look."""
_META = re.compile(r"__[^/]*__($|/)")


@dataclass(slots=True)
class TarSample:
    """What a tar holds under one key."""

    key: str
    """Unique within the tar; a second one of the same key has `#2` behind it."""
    name: str | None = None
    """The picture's member name; None where there is none, or one that no path may have."""
    ext: str = ""
    """The picture's last ending, without the dot."""
    size: int | None = None
    """Bytes of the picture's member."""
    image: bytes | None = None
    captions: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    """The `.json` member."""
    problem: tuple[str, str] | None = None
    """(code, detail) from the closed list; the picture's own soundness is not judged here."""
    members: list[str] = field(default_factory=list)
    """Endings of the key's members, in lower case."""


class TarReader:
    """The samples of the tar in `file`, in order; TarError as soon as the tar proves unsound.

    Nothing read may be believed before the iteration has ended: the end, and the hash if
    `sha256` is given, are checked last.
    """

    def __init__(
        self, file: IO[bytes], name: str, *, sha256: str = "", max_bytes: int = MAX_BYTES
    ) -> None:
        self._stream = TarStream(file, name)
        self._name = name
        self._expected = sha256
        self._max_bytes = max_bytes
        self._taken: set[str] = set()
        self._folded: set[str] = set()
        self._waiting: list[TarSample] = []
        self.members = 0
        """Headers seen."""
        self.companions = 0
        """Members that went into a picture's captions and facts."""
        self.skipped: Counter[str] = Counter()
        """Members that are in no sample, by reason."""

    @property
    def size(self) -> int:
        """Bytes of the tar, once the iteration has ended."""
        return self._stream.size

    @property
    def sha256(self) -> str:
        """Hash of the tar, once the iteration has ended."""
        return self._stream.sha256

    def __iter__(self) -> Iterator[TarSample]:
        current, held = "", None
        for info in self._stream.members():
            self.members += 1
            if not (usual := _usual(info)) and not self._fit(info):
                continue
            key, endings = usual or split_name(info.name)
            if held is None or key != current:
                yield from self._finished(held)
                current, held = key, self._begin(key)
            self._add(held, info, endings.lower())
        yield from self._finished(held)
        if self._expected and self.sha256 != self._expected:
            raise TarError(f"{self._name!r} is not the file that its receipt names")

    def _fit(self, info: tarfile.TarInfo) -> bool:
        """Whether a member can be part of a sample; one that cannot is counted or set aside."""
        if odd := _odd(info):
            self.skipped[odd] += 1
        elif why := _unsafe(info.name):
            self._refuse(info, why)
        else:
            return True
        return False

    def _finished(self, sample: TarSample | None) -> Iterator[TarSample]:
        """`sample`, then what was set aside while it was open."""
        if sample is not None:
            if sample.size is None and sample.problem is None:
                held = ", ".join(sample.members)
                sample.problem = ("missing_member", f"no picture among its members ({held})")
            yield sample
        yield from self._waiting
        self._waiting = []

    def _begin(self, key: str) -> TarSample:
        folded = key.casefold()  # names that differ in case are one file on many a disk
        if folded not in self._folded:
            self._folded.add(folded)
            self._taken.add(key)
            return TarSample(key)
        problem = ("duplicate_key", f"an earlier sample has the key {key!r}, case aside")
        return TarSample(self._unique(key), problem=problem)

    def _unique(self, key: str) -> str:
        names = (key if number == 1 else f"{key}#{number}" for number in count(1))
        name = next(name for name in names if name not in self._taken)
        self._taken.add(name)
        return name

    def _refuse(self, info: tarfile.TarInfo, why: str) -> None:
        if ending(info.name) not in PICTURES:
            self.skipped["unsafe name"] += 1
            return
        raw = info.name.encode("utf-8", "surrogateescape")
        key = self._unique(hashlib.blake2b(raw, digest_size=8).hexdigest())
        problem = ("metadata_error", f"its member name is refused: {why}")
        self._waiting.append(TarSample(key, size=info.size, problem=problem))

    def _add(self, sample: TarSample, info: tarfile.TarInfo, endings: str) -> None:
        last = ending(f"x.{endings}")
        repeated = endings in sample.members
        sample.members.append(endings)
        if last in PICTURES:
            self._add_picture(sample, info, last[1:])
        elif repeated:
            self.skipped["second member of its name"] += 1
        elif last in CAPTIONS or endings == "json":
            self._add_text(sample, info, endings)
        else:
            self.skipped["other ending"] += 1

    def _add_picture(self, sample: TarSample, info: tarfile.TarInfo, ext: str) -> None:
        if sample.size is not None:
            key, problem = (
                split_name(info.name)[0],
                ("duplicate_key", "its key has a picture already"),
            )
            again = TarSample(self._unique(key), info.name, ext, info.size, problem=problem)
            self._waiting.append(again)
            return
        sample.name, sample.ext, sample.size = info.name, ext, info.size
        if info.size > self._max_bytes:
            detail = f"{info.size} bytes, more than {self._max_bytes}"
            sample.problem = sample.problem or ("too_large", detail)
        if sample.problem is None:
            sample.image = self._stream.read(info)

    def _add_text(self, sample: TarSample, info: tarfile.TarInfo, endings: str) -> None:
        if info.size > MAX_TEXT:
            self.skipped["text too large"] += 1
            return
        text = self._stream.read(info).decode("utf-8-sig", "replace")
        if endings == "json":
            facts = _parsed(text)
            if facts is None:
                self.skipped["unreadable json"] += 1
                return
            sample.facts = facts
        else:
            sample.captions += clean_captions(text.splitlines())
        self.companions += 1


def _usual(info: tarfile.TarInfo) -> tuple[str, str] | None:
    """Key and endings of a plain file with a plain name, None where more has to be asked."""
    if info.type != tarfile.REGTYPE or info.sparse is not None:
        return None
    match = _USUAL.fullmatch(info.name)
    return (match[1], match[2]) if match else None


def _odd(info: tarfile.TarInfo) -> str:
    """Why a member can be in no sample; empty if it can."""
    reasons = {
        "folder": info.isdir(),
        "not a plain file": not info.isreg() or info.issparse(),
        "webdataset's own": _META.match(info.name) is not None,
        "hidden": info.name.rpartition("/")[2].startswith("."),
        "no ending": _KEY.fullmatch(info.name) is None,
    }
    return next((why for why, true in reasons.items() if true), "")


def _unsafe(name: str) -> str:
    """Why a name may not become a key, which others build paths from; empty if it may."""
    reasons = {
        "it is absolute": name.startswith("/"),
        "it climbs out by '..'": ".." in name.split("/"),
        "it holds a NUL": "\0" in name,
        "it is not UTF-8": any("\ud800" <= sign <= "\udfff" for sign in name),
        "it is longer than 255 bytes": len(name.encode("utf-8", "surrogateescape")) > 255,
    }
    return next((why for why, true in reasons.items() if true), "")


def split_name(name: str) -> tuple[str, str]:
    """Key and endings of a member, by the rule of webdataset."""
    match = _KEY.fullmatch(name)
    return (match[1], match[2]) if match else (name, "")


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None
