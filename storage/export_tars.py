"""New webdataset tars: chosen pictures, each with its new caption and all that is known of it."""

from contextlib import ExitStack
from pathlib import Path

from storage.export_files import BASIC, FACTS
from storage.export_names import picture_ending
from storage.export_place import ExportPlace
from storage.export_rows import Chosen, Part
from storage.tar_writer import TarWriter


class Tars:
    """Tars of `size` samples, each published once all its samples are in it."""

    def __init__(self, place: ExportPlace, folder: Path, size: int, total: int) -> None:
        self.columns = [*BASIC, *FACTS]
        self.skipped = 0
        self._place = place
        self._folder = folder
        self._size = size
        self._total = total
        self._open = ExitStack()
        self._tar: TarWriter | None = None

    def begin(self, part: Part) -> bool:
        """Start on a shard; whether any of its rows belongs to a tar that is not done."""
        numbers = range(part.first // self._size, (part.first + part.count - 1) // self._size + 1)
        return any(_name(number) not in self._place.done for number in numbers)

    def put(self, one: Chosen, image: bytes | None) -> None:
        """Take the next row; it is passed over if its tar is done, or lacks what came before."""
        name = _name(one.rank // self._size)
        if name in self._place.done or image is None:
            return
        if one.rank % self._size == 0:
            self._tar = self._open.enter_context(TarWriter(self._folder / name))
        if self._tar is None:
            return
        row = one.row
        facts = {name: row[name] for name in self.columns if name != "captions"}
        facts["captions"] = [candidate["text"] for candidate in row["captions"]]
        self._tar.write(one.name, (picture_ending(row), image), facts, [row["caption"]])
        if (one.rank + 1) % self._size == 0 or one.rank + 1 == self._total:
            self._publish(name, self._tar.path)

    def end(self, part: Part, *, whole: bool) -> None:  # noqa: ARG002 - a tar may span parts
        """The shard is over; unless it is `whole`, the tar that was begun cannot be."""
        if not whole and self._tar:
            self._open.close()
            self._tar.path.unlink()
            self._tar = None

    def finish(self) -> list[str]:
        """Names of all tars."""
        return sorted(name for name in self._place.done if name.endswith(".tar"))

    def close(self) -> None:
        """Let go of the tar that was begun."""
        self._open.close()

    def _publish(self, name: str, path: Path) -> None:
        self._open.close()
        self._tar = None
        self._place.put(name, path)
        path.unlink()
        self._place.mark(name)


def _name(number: int) -> str:
    return f"{number:05}.tar"
