"""From ClipCap's pickled embeddings to clip-retrieval's layout."""

from dataclasses import dataclass
from pathlib import Path

from captioner.importing.embeddings import read_embeddings
from storage.clip_retrieval import write_embeddings

PART = 100_000
"""Pictures in one part."""


@dataclass(frozen=True, slots=True)
class ImportedEmbeddings:
    """What a file came to."""

    pictures: int
    captions: int
    dim: int
    dtype: str


def import_embeddings(source: Path, url: str, *, part: int = PART) -> ImportedEmbeddings:
    """Write the embeddings and captions in `source` into the empty folder at `url`."""
    found = read_embeddings(source)
    parts = (
        (image_NC, [(picture.key, picture.captions) for picture in pictures])
        for image_NC, pictures in found.parts(part)
    )
    rows = write_embeddings(url, parts)
    captions = sum(len(picture.captions) for picture in found.pictures)
    return ImportedEmbeddings(rows, captions, found.image_NC.shape[1], found.image_NC.dtype.name)
