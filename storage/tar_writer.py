"""A webdataset tar in local scratch whose bytes depend on its samples alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from storage.sources.tree import PICTURES, ending

_ENDINGS = {"JPEG": "jpg", "TIFF": "tif"}


class _Writer(Protocol):
    def write(self, obj: Mapping[str, object]) -> int: ...

    def close(self) -> None: ...


class TarWriter:
    """The tar at the local `path`, as a context; it is whole once the context is left."""

    def __init__(self, path: Path) -> None:
        # Not above: webdataset loads torch, and whoever only reads shards can do without it.
        from webdataset.writer import TarWriter as WebdatasetWriter  # noqa: PLC0415

        self.path = path
        self._file = path.open("wb")
        self._tar: _Writer = WebdatasetWriter(
            self._file, user="nightcap", group="nightcap", mode=0o644, mtime=0, encoder=False
        )

    def __enter__(self) -> "TarWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tar.close()
        self._file.close()

    def write(
        self,
        key: str,
        picture: tuple[str, bytes],
        facts: Mapping[str, Any],
        captions: Sequence[str] = (),
    ) -> None:
        """Add members `key.<ext>`, `key.json` and, if there are captions, `key.txt`.

        `picture` is (ending without dot, bytes).
        """
        ext, data = picture
        text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
        sample: dict[str, object] = {"__key__": key, ext: data, "json": text.encode()}
        if captions:
            sample["txt"] = "\n".join(captions).encode()
        self._tar.write(sample)


def member_ending(path: str, picture_format: str | None) -> str:
    """The ending for the picture at `path`: its own if pictures have it, else its format's."""
    own = ending(path)
    if own in PICTURES:
        return own[1:]
    known = _ENDINGS.get(picture_format or "", (picture_format or "jpg").lower())
    return known if f".{known}" in PICTURES else "jpg"
