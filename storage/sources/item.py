"""One thing a source holds: a picture, or a tar of pictures."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceItem:
    """What is known of a picture before its bytes are read."""

    path: str
    """Relative to the source's base, verbatim."""
    size: int
    """Bytes; 0 where the store does not know the file."""
    stamp: str
    """Etag or modification time, by which a change is told; empty where it is not known."""
    captions: tuple[str, ...] = ()
    url: str | None = None
    """Where others can find it; None for a file of this machine."""

    @property
    def order(self) -> tuple[str, ...]:
        """What listings are sorted by."""
        return path_order(self.path)


def path_order(path: str) -> tuple[str, ...]:
    """Components of `path`: a folder's content stays together, whatever its name."""
    return tuple(path.split("/"))


def clean_captions(texts: list[str]) -> tuple[str, ...]:
    """`texts` on one line each, without the blank ones."""
    lines = (" ".join(text.split()) for text in texts)
    return tuple(line for line in lines if line)
