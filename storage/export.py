"""Export: a run, or the rows of it that somebody chose, in the form that another tool reads.

Everything streams: memory holds a row group of captions and one picture. Whatever is interrupted
goes on where it was; a shard whose pictures are gone costs that shard alone.
"""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from storage.captions import caption_store, find_captions
from storage.commit import scratch
from storage.errors import ConfigurationError, ShardError, StoreUnavailable
from storage.export_card import card
from storage.export_files import LAYOUTS, Files
from storage.export_options import Exported, ExportOptions
from storage.export_parquet import Parts, new_seen
from storage.export_pictures import check_pictures, with_pictures
from storage.export_place import ExportPlace, open_place
from storage.export_rows import Chosen, Part, Selection
from storage.export_tars import Tars
from storage.fingerprint import fingerprint, sha256_stream
from storage.layout import Root, open_root
from storage.settled import Settled
from storage.shards import ShardStore
from storage.tables import connect
from storage.urls import filesystem, join, open_read, redact

__all__ = ["ExportOptions", "Exported", "export"]

Begin = Callable[[int, int], object]
Tell = Callable[[int], object]


class Sink(Protocol):
    """What takes rows, shard by shard."""

    columns: list[str]
    skipped: int

    def begin(self, part: Part) -> bool:
        """Start on a shard; whether its pictures are wanted."""

    def put(self, one: Chosen, image: bytes | None) -> None:
        """Take a row."""

    def end(self, part: Part, *, whole: bool) -> None:
        """The shard is over, or it failed."""

    def finish(self) -> list[str]:
        """Names of the files that show the whole."""

    def close(self) -> None:
        """Let go of what is half done."""


def export(
    root: str, out: str, options: ExportOptions, begin: Begin = max, tell: Tell = bool
) -> Exported:
    """Write the rows into the folder `out`.

    `begin` hears how many rows and shards there are, `tell` how many more rows are done.

    ConfigurationError where `out` holds something else, or an id list fits another run.
    """
    place = open_root(root)
    _check_apart(place, out)
    settled = find_captions(place, options.run)
    ids = _sha256(options.ids)
    request = _request(place, settled, options, ids)
    with scratch() as folder, connect(folder, options.threads) as database:
        selection = Selection(database, folder)
        everything = options.to == "parquet"
        selection.choose(place.url, settled.name, options.naming, options.ids, failed=everything)
        done = Exported(run=settled.name, counts=selection.counts)
        begin(selection.counts.chosen, selection.counts.shards)
        with open_place(out, request) as home:
            work = _Work(place, settled, options, selection, home, folder, done, tell)
            names = work.parquet(ids) if everything else work.files()
            home.flush()
        done.outputs = [join(out, name) for name in names] or [out]
    return done


@dataclass(slots=True)
class _Work:
    """One export under way."""

    root: Root
    settled: Settled
    options: ExportOptions
    selection: Selection
    home: ExportPlace
    folder: Path
    done: Exported
    tell: Tell

    def files(self) -> list[str]:
        """Write everything but Parquet."""
        with closing(self._sink()) as sink:
            return self._pour(sink)

    def _pour(self, sink: Sink) -> list[str]:
        store, offered = ShardStore(self.root), 0
        for part, rows in self.selection.parts(sink.columns):
            wanted = sink.begin(part)
            if wanted:
                check_pictures(store, part.shard)
            try:
                for one, image in with_pictures(store, part.shard, rows) if wanted else _bare(rows):
                    sink.put(one, image)
                whole = True
            except (ShardError, StoreUnavailable) as error:
                self.done.failed_shards[part.shard] = str(error)
                whole = False
            sink.end(part, whole=whole)
            self.done.written += part.count if whole else 0
            self.tell(part.count)
            offered += part.count
        if offered < self.selection.counts.chosen:  # the rows themselves ended early
            raise ShardError(next(reversed(self.done.failed_shards.values())))
        names = sink.finish()
        self.done.empty = sink.skipped
        self.done.written -= sink.skipped
        return names

    def parquet(self, ids: str) -> list[str]:
        """Write parts and card."""
        seen = new_seen(self.folder)
        facts = {"run": self.settled.name, "fingerprint": self.settled.fingerprint}
        facts["scorer"] = str(self.settled.resolved.get("scorer") or "")
        parts = Parts(self.home, self.folder, self.options.max_bytes, facts, seen)
        parts.write(self.selection, self.tell)
        told = {"license": self.options.license, "title": self.options.title, "ids_sha256": ids}
        text = card(self.root, self.settled, seen, self.options.ids, told)
        self.home.put("README.md", text.encode())
        self.done.written = seen.rows
        return [*(part["name"] for part in seen.parts), "README.md"]

    def _sink(self) -> Sink:
        options = self.options
        if options.to == "webdataset":
            total = self.selection.counts.chosen
            return Tars(self.home, self.folder, options.samples_per_tar, total)
        layout = LAYOUTS[options.to]
        return Files(self.home, layout, self.folder, pictures=options.with_pictures)


def _bare(rows: Iterable[Chosen]) -> Iterable[tuple[Chosen, None]]:
    return ((one, None) for one in rows)


def _check_apart(root: Root, out: str) -> None:
    """ConfigurationError where `out` lies under the root, which must hold nothing but its own."""
    (ours, top), (theirs, place) = filesystem(root.url), filesystem(out)
    if type(ours) is type(theirs) and f"{place.rstrip('/')}/".startswith(f"{top.rstrip('/')}/"):
        raise ConfigurationError(f"{redact(out)!r} lies inside ROOT: give a folder outside of it")


def _sha256(ids: str) -> str:
    if not ids:
        return ""
    try:
        with open_read(ids) as file:
            return sha256_stream(file)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigurationError(
            f"there is no id list {redact(ids)!r}: give the ids.parquet of a curation"
        ) from error


def _request(root: Root, settled: Settled, options: ExportOptions, ids: str) -> dict[str, Any]:
    """All that decides what is written."""
    store = caption_store(root, settled)
    files = [record.receipt.files[0].sha256 for batch in store.batches()
             for record in store.receipts(batch).values()]  # fmt: skip
    return {
        "to": options.to,
        "run": settled.name,
        "ids": ids,
        "state": fingerprint({"run": settled.fingerprint, "files": files}),
        "names": options.naming,
        "pictures": options.with_pictures,
        "samples_per_tar": options.samples_per_tar if options.to == "webdataset" else None,
        "max_bytes": options.max_bytes if options.to == "parquet" else None,
        "license": options.license if options.to == "parquet" else None,
        "title": options.title if options.to == "parquet" else None,
    }
