"""Writes embeddings in clip-retrieval's layout, part by part.

DIR/img_emb/img_emb_{n}.npy goes with DIR/metadata/metadata_{n}.parquet, one row a picture.

Shapes:  N rows   C embedding
"""

import io
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from storage.commit import replace
from storage.errors import ConfigurationError
from storage.urls import filesystem, join, redact, translated

SCHEMA = pa.schema([("key", pa.string()), ("caption", pa.list_(pa.string()))])
"""What is known of each picture."""
Part = tuple[npt.NDArray[np.floating], Sequence[tuple[str, Sequence[str]]]]
"""Embeddings image_NC, and key and captions of each row."""


def write_embeddings(url: str, parts: Iterable[Part]) -> int:
    """Write `parts` into the folder at `url`, which must be absent or empty; the rows written.

    An array comes after its metadata, so that whoever finds one finds both.
    """
    fs, path = filesystem(url)
    with translated(url, "read"):
        taken = fs.exists(path) and (not fs.isdir(path) or bool(fs.ls(path)))
    if taken:
        raise ConfigurationError(f"{redact(url)!r} is not an empty folder; give a new one")
    rows = 0
    for number, (image_NC, described) in enumerate(parts):
        replace(join(url, "metadata", f"metadata_{number:04}.parquet"), _metadata(described))
        replace(join(url, "img_emb", f"img_emb_{number:04}.npy"), _array(image_NC))
        rows += len(described)
    return rows


def _metadata(described: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    rows = [{"key": key, "caption": list(captions)} for key, captions in described]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), file, compression="zstd")
    return file.getvalue()


def _array(image_NC: npt.NDArray[np.floating]) -> bytes:
    file = io.BytesIO()
    np.save(file, image_NC, allow_pickle=False)
    return file.getvalue()
