"""Pictures that one JSON document names: COCO's `captions_*.json`, Karpathy's `dataset_*.json`.

The document is parsed as a whole, what captions do not need dropped on the way: about four times
its size in memory (0.6 GB for 157 MB of Karpathy's kind). What lacks a key is refused with its
place; a picture without a caption is kept.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from storage.errors import ConfigurationError
from storage.sources.item import path_order
from storage.sources.rows import TableRow
from storage.sources.tree import Tree
from storage.urls import open_read

ENDING = ".json"
_KEPT = frozenset(
    {"images", "id", "file_name", "coco_url", "annotations", "image_id", "caption"}
    | {"filepath", "filename", "split", "sentences", "raw"}
)
"""Keys that are read, at whatever depth; tokens, licences and the like are dropped at once."""


class _Picture(NamedTuple):
    path: str
    url: str | None
    split: str
    captions: list[str]


class AnnotationRows:
    """The pictures of the document at `url`, of the chosen `splits` or of all if none is chosen."""

    def __init__(self, url: str, splits: Sequence[str]) -> None:
        self._url = url
        self._splits = tuple(splits)
        self.facts = {"split": ",".join(splits)}
        self.counted: dict[str, int] = {}

    def first_path(self) -> str:
        """The path of the first picture; ConfigurationError if there is none to be had."""
        return self._pictures[0].path

    def sorted(self, base: str) -> Iterator[TableRow]:
        """A row a picture by path components; equal paths keep the order of the document.

        `base` is taken off absolute paths that begin with it.
        """
        found = [(one.path.removeprefix(base).removeprefix("./"), one) for one in self._pictures]
        found.sort(key=lambda pair: path_order(pair[0]))
        for path, one in found:
            yield TableRow(path, one.url, tuple(one.captions))

    @cached_property
    def _pictures(self) -> list[_Picture]:
        document = _Document(Tree(self._url).shown(""), self._load())
        images = document.images()
        if "annotations" in document.content:
            return self._coco(document, images)
        return self._karpathy(document, images)

    def _load(self) -> Any:
        with open_read(self._url) as file:
            try:
                return json.load(file, object_hook=_kept)
            except (ValueError, RecursionError) as error:
                shown = Tree(self._url).shown("")
                raise ConfigurationError(f"{shown!r} cannot be read as JSON: {error}") from error

    def _coco(self, document: "_Document", images: list[Any]) -> list[_Picture]:
        """Annotations name their image by its id; those of no listed image are counted."""
        if self._splits:
            raise document.refused("has no splits (a COCO file is one): leave --split out")
        found: dict[Any, _Picture] = {}
        for at, image in enumerate(images):
            place = f"images[{at}]"
            key = document.value(image, "id", place, int | str)
            path = document.value(image, "file_name", place)
            one = _Picture(path, document.optional(image, "coco_url", place) or None, "", [])
            if found.setdefault(key, one).path != path:
                raise document.refused(f"gives two pictures the id {key!r}, the second at {place}")
        strays = 0
        annotations = document.value(document.content, "annotations", "it", list)
        for at, annotation in enumerate(annotations):
            place = f"annotations[{at}]"
            key = document.value(annotation, "image_id", place, int | str)
            caption = document.value(annotation, "caption", place)
            if key in found:
                found[key].captions.append(caption)
            strays += key not in found
        self.counted = {"captions of pictures that are not listed": strays} if strays else {}
        return list(found.values())

    def _karpathy(self, document: "_Document", images: list[Any]) -> list[_Picture]:
        found = []
        for at, image in enumerate(images):
            place = f"images[{at}]"
            folder = document.optional(image, "filepath", place)
            name = document.value(image, "filename", place)
            said = document.value(image, "sentences", place, list)
            captions = [
                document.value(sentence, "raw", f"{place}.sentences[{number}]")
                for number, sentence in enumerate(said)
            ]
            split = document.optional(image, "split", place)
            found.append(_Picture(f"{folder}/{name}" if folder else name, None, split, captions))
        return self._chosen(document, found)

    def _chosen(self, document: "_Document", pictures: list[_Picture]) -> list[_Picture]:
        counts = Counter(one.split for one in pictures)
        for split in self._splits:
            if split not in counts:
                known = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
                raise document.refused(f"has no split {split!r}: choose --split among {known}")
        return [one for one in pictures if not self._splits or one.split in self._splits]


@dataclass(frozen=True, slots=True)
class _Document:
    """A parsed document; what is not as it should be is refused with its place."""

    shown: str
    content: Any

    def images(self) -> list[Any]:
        """The pictures that it lists, at least one."""
        if not isinstance(self.content, dict) or not isinstance(self.content.get("images"), list):
            raise self.refused(
                "has no list 'images': give COCO captions, a Karpathy split, or a table as .jsonl"
            )
        if not self.content["images"]:
            raise self.refused("names no pictures: its 'images' is empty")
        return list(self.content["images"])

    def value(self, record: Any, key: str, place: str, kind: Any = str) -> Any:
        """`record[key]`, of the right kind; ConfigurationError says where it is not."""
        if not isinstance(record, dict) or key not in record:
            raise self.refused(f"cannot be used: {place} has no {key!r}")
        nameless = key in ("file_name", "filename") and not record[key]
        if not isinstance(record[key], kind) or nameless:
            raise self.refused(f"cannot be used: {key!r} of {place} is {record[key]!r:.40}")
        return record[key]

    def optional(self, record: Any, key: str, place: str) -> str:
        """`record[key]`, empty where there is none."""
        given = isinstance(record, dict) and record.get(key) not in (None, "")
        return str(self.value(record, key, place)) if given else ""

    def refused(self, why: str) -> ConfigurationError:
        """The error that names the document."""
        return ConfigurationError(f"{self.shown!r} {why}")


def _kept(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name in _KEPT}
