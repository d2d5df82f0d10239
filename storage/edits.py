"""What reviewers decided about a run's captions: an append-only log that no crash can shorten.

Each batch of decisions is one file of its own below `ROOT/edits/<run>/`, published whole and
flushed before anybody hears that it is kept; no file is ever changed. Who decided and when is
data here, so this is the one record under a root that bears a clock. An undo is a record too.
"""

import json
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from storage.ahead import ahead
from storage.commit import create
from storage.errors import ConfigurationError, ShardError
from storage.fingerprint import fingerprint
from storage.layout import Root
from storage.urls import READERS, folders, is_local, join, listing, read_bytes, redact, stat

FORMAT = 1
ACTIONS = ("accept", "edit", "reject", "undo")
MAX_CAPTION = 100_000
"""Letters of a caption; an edit beyond is refused."""
_NAME = re.compile(r"(\d{6,})\.json")
_NEVER = datetime.min.replace(tzinfo=UTC)
FAR_SECONDS = 10.0
"""Between looks for others' decisions in an object store."""
ORIGINALS = "originals"
"""The folder beside the decisions that holds rows as they were: `storage.edit_originals`."""

RowName = tuple[str, str]
"""(shard, key)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One decision of one person about one row."""

    id: str
    """32 hex digits; a second arrival of the same is the same."""
    shard: str
    key: str
    action: str
    """accept (a caption that stood there), edit (one written by hand), reject, or undo."""
    caption: str = ""
    """The text that was accepted or written."""
    undoes: str = ""
    """Id of the decision that an undo takes back."""
    by: str
    at: str
    """UTC, to the microsecond; of two decisions the later counts."""

    @property
    def name(self) -> RowName:
        """Identity of the row."""
        return self.shard, self.key


def standing(history: Iterable[Edit]) -> Edit | None:
    """The decision that counts: the latest that nobody took back; None where there is none."""
    ordered = sorted(history, key=_order)
    undone = {edit.undoes for edit in ordered if edit.action == "undo"}
    left = [edit for edit in ordered if edit.action != "undo" and edit.id not in undone]
    return left[-1] if left else None


@dataclass(slots=True)
class EditLog:
    """The decisions about one run; any number of processes may add to it at once.

    Each writes into a folder of its own, `<time>-<id>/000000.json` and on, so that a look for
    what is new asks for one file a folder, however many there are.
    """

    root: Root
    run: str
    _session: str = ""
    _read: dict[str, int] = field(default_factory=dict)
    """How many files of each folder are known."""
    _ids: set[str] = field(default_factory=set)
    _rows: dict[RowName, list[Edit]] = field(default_factory=dict)
    _last: datetime = _NEVER
    _looked: float = -FAR_SECONDS
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def folder(self) -> str:
        """URL of the folder that holds the log."""
        return self.root.edits(self.run)

    def add(self, edits: Sequence[Edit]) -> list[Edit]:
        """Keep `edits`; when this returns they are on disk. Gives those that were new."""
        with self._lock:
            new = list({edit.id: edit for edit in edits if edit.id not in self._ids}.values())
            if new:
                self._session = self._session or f"{_folder_time(new[0].at)}-{new[0].id[:8]}"
                number, data = self._read.get(self._session, 0), _to_bytes(new)
                url = self._url(self._session, number)
                if not create(url, data) and read_bytes(url) != data:  # or our reply was lost
                    raise ShardError(f"{redact(url)!r} was written by another: start again")
                self._read[self._session] = number + 1
                self._take(new)
            return new

    def refresh(self) -> list[Edit]:
        """Take up what others added since the last look, and give it.

        In an object store, where a look is slow, one in ten seconds is enough.
        """
        with self._lock:
            near = is_local(self.folder)
            if not near and time.monotonic() - self._looked < FAR_SECONDS:
                return []
            self._looked = time.monotonic()
            others = [one for one in folders(self.folder) if one not in (ORIGINALS, self._session)]
            found: list[Edit] = []
            for added in ahead(self._added, others, 0 if near else READERS):
                found += [edit for edit in added if edit.id not in self._ids]
                self._take(added)
            return found

    def history(self, name: RowName) -> list[Edit]:
        """Every decision about a row, undone ones too, in order of time."""
        with self._lock:
            return sorted(self._rows.get(name, ()), key=_order)

    def names(self) -> list[RowName]:
        """The rows that somebody decided about, in order."""
        with self._lock:
            return sorted(self._rows)

    def now(self) -> str:
        """A time for the next decision, later than all that are known."""
        with self._lock:
            now = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
            self._last = now
            return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _added(self, session: str) -> list[Edit]:
        """What a folder holds beyond what is known of it; all of it at the first look."""
        found: list[Edit] = []
        if session not in self._read:
            files = edit_files(join(self.folder, session))
            for url in files.values():  # one may have been moved out, being damaged
                found += read_edits(url)
            self._read[session] = max(files, default=-1) + 1
        while stat(self._url(session, self._read[session])):
            found += read_edits(self._url(session, self._read[session]))
            self._read[session] += 1
        return found

    def _url(self, session: str, number: int) -> str:
        return join(self.folder, session, f"{number:06}.json")

    def _take(self, edits: Iterable[Edit]) -> None:
        for edit in edits:
            if edit.id in self._ids:
                continue
            self._ids.add(edit.id)
            self._rows.setdefault(edit.name, []).append(edit)
            self._last = max(self._last, datetime.fromisoformat(edit.at))


def edit_files(folder: str) -> dict[int, str]:
    """URL of each file in one folder of a log, by its number; one may have been moved out."""
    names = (match for name in listing(folder) if (match := _NAME.fullmatch(name)))
    return {int(match[1]): join(folder, match[0]) for match in names}


def read_edits(url: str) -> list[Edit]:
    """The decisions in one file of a log; ShardError if it is not as it was written."""
    return _from_bytes(read_bytes(url), url)


def checked(given: Mapping[str, Any]) -> dict[str, str]:
    """What of a sent decision is a decision's: id, action, caption, and for an undo, of which.

    ConfigurationError if it is none.
    """
    found = {name: given.get(name, "") for name in ("id", "action", "caption", "undoes")}
    if not all(isinstance(value, str) for value in found.values()):
        raise ConfigurationError("id, action, caption and undoes of an edit must be text")
    if len(found["id"]) != 32 or set(found["id"]) - set("0123456789abcdef"):
        raise ConfigurationError(f"{found['id'][:40]!r} cannot name an edit: 32 hex digits can")
    if found["action"] not in ACTIONS:
        raise ConfigurationError(f"{found['action'][:40]!r} is none of {', '.join(ACTIONS)}")
    caption = found["caption"]
    if len(caption) > MAX_CAPTION:
        raise ConfigurationError(
            f"a caption may have {MAX_CAPTION} letters, this one has {len(caption)}: shorten it"
        )
    if found["action"] in ("accept", "edit") and not caption.strip():
        raise ConfigurationError("an empty caption cannot be kept: write one, or reject the row")
    if any("\ud800" <= sign <= "\udfff" for sign in caption):
        raise ConfigurationError("the caption holds half a letter (a lone surrogate): type it anew")
    return found


def _order(edit: Edit) -> tuple[str, str]:
    return edit.at, edit.id


def _folder_time(at: str) -> str:
    return datetime.fromisoformat(at).strftime("%Y%m%dT%H%M%SZ")


def _to_bytes(edits: Sequence[Edit]) -> bytes:
    body: dict[str, Any] = {"format": FORMAT, "edits": [asdict(edit) for edit in edits]}
    body["digest"] = fingerprint(body)
    return (json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _from_bytes(data: bytes, url: str) -> list[Edit]:
    try:
        body = json.loads(data)
        digest = body.pop("digest")
        genuine = body["format"] == FORMAT and digest == fingerprint(body)
        edits = [Edit(**edit) for edit in body["edits"]] if genuine else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(url, str(error)) from error
    if edits is None:
        raise _damaged(url, "its digest is another")
    return edits


def _damaged(url: str, why: str) -> ShardError:
    return ShardError(
        f"{redact(url)!r} is no whole file of edits ({why}): restore it from a copy, or move it "
        "out of the folder to go on without what it holds"
    )
