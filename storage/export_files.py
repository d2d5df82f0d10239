"""One text file a picture, or one metadata file for all of them, with the pictures if asked for."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from storage.export_names import picture_ending
from storage.export_place import ExportPlace
from storage.export_rows import Chosen, Part

Row = dict[str, Any]

BASIC = ("shard", "key", "path", "sha256", "format", "caption")
FACTS = (
    *("url", "width", "height", "orig_caption", "caption_logprob"),
    *("n_tokens", "clip_sim", "orig_clip_sim", "captions"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What is written for each row."""

    columns: tuple[str, ...] = BASIC
    sidecar: Callable[[Row], str] | None = None
    """Text of `<name>.txt`."""
    line: Callable[[Chosen], str] | None = None
    """The row's entry in `metadata`."""
    metadata: str = ""
    opening: str = ""
    between: str = "\n"
    closing: str = "\n"
    needs_text: bool = False
    """Whether rows whose caption is empty are left out, because the reader refuses them."""


def one_line(text: str) -> str:
    """`text` on one line: what ends a line becomes a space."""
    return " ".join(text.splitlines())


def _lines(row: Row) -> str:
    texts = [one["text"] for one in row["captions"]]
    if row["caption"] not in texts:
        texts.insert(0, row["caption"])
    return "\n".join(dict.fromkeys(filter(None, map(one_line, texts))))


def _kohya(one: Chosen) -> str:
    return f"{_json(one.name)}: {_json({'caption': one.row['caption']})}"


def _imagefolder(one: Chosen) -> str:
    row = one.row
    facts = {
        "file_name": f"{one.name}.{picture_ending(row)}",
        "text": row["caption"],
        **{name: row[name] for name in ("key", "shard", "path", "sha256")},
        **{name: row[name] for name in FACTS if name != "captions"},
        "captions": [candidate["text"] for candidate in row["captions"]],
    }
    return _json(facts)


_json = json.JSONEncoder(ensure_ascii=False).encode


LAYOUTS = {
    "txt": Layout(sidecar=lambda row: str(row["caption"])),
    "sidecars": Layout(columns=(*BASIC, "captions"), sidecar=_lines),
    "kohya": Layout(
        line=_kohya,
        metadata="metadata.json",
        opening="{\n",
        between=",\n",
        closing="\n}\n",
        needs_text=True,
    ),
    "imagefolder": Layout(
        columns=(*BASIC, *FACTS), line=_imagefolder, metadata="metadata.jsonl", closing="\n"
    ),
}


class Files:
    """Writes a layout into a folder, a shard at a time."""

    def __init__(self, place: ExportPlace, layout: Layout, folder: Path, *, pictures: bool) -> None:
        self.columns = list(layout.columns)
        self.skipped = 0
        self._place = place
        self._layout = layout
        self._pictures = pictures
        self._writes = False
        self._held = folder / "part"
        self._whole = folder / (layout.metadata or "none")
        self._part: IO[str] | None = None
        self._lines = 0

    def begin(self, part: Part) -> bool:
        """Start on a shard; whether its pictures are needed."""
        self._writes = _unit(part) not in self._place.done
        self._part = self._held.open("w", encoding="utf-8", newline="")
        return self._writes and self._pictures

    def put(self, one: Chosen, image: bytes | None) -> None:
        """Take the next row."""
        layout = self._layout
        if layout.needs_text and not one.row["caption"].strip():
            self.skipped += 1
            return
        if self._writes and image is not None:
            self._place.put(f"{one.name}.{picture_ending(one.row)}", image)
        if self._writes and layout.sidecar:
            self._place.put(f"{one.name}.txt", layout.sidecar(one.row).encode())
        if layout.line and self._part:
            self._part.write(layout.line(one) + "\n")

    def end(self, part: Part, *, whole: bool) -> None:
        """The shard is over; unless it is `whole`, nothing of it is told."""
        self.close()
        if not whole:
            return
        if self._layout.line:
            self._append()
        if self._writes and (self._pictures or self._layout.sidecar):
            self._place.mark(_unit(part))

    def finish(self) -> list[str]:
        """Write the metadata file; names of what lies at the top."""
        layout = self._layout
        if not layout.line:
            return []
        empty = layout.opening + layout.closing if layout.opening else ""
        with self._whole.open("a", encoding="utf-8", newline="") as file:
            file.write(layout.closing if self._lines else empty)
        self._place.put(layout.metadata, self._whole)
        return [layout.metadata]

    def close(self) -> None:
        """Let go of the part that was begun."""
        if self._part:
            self._part.close()

    def _append(self) -> None:
        """Add a whole shard's entries to the metadata; an entry is one line of its own."""
        layout = self._layout
        with (
            self._held.open(encoding="utf-8", newline="\n") as part,
            self._whole.open("a", encoding="utf-8", newline="") as whole,
        ):
            for line in part:
                whole.write((layout.between if self._lines else layout.opening) + line[:-1])
                self._lines += 1


def _unit(part: Part) -> str:
    return part.shard.replace("/", "-")
