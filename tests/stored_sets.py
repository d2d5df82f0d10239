"""Small folders of embeddings as clip-retrieval writes them, of the weightless `size` model."""

import io
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq


def put(url: str, data: bytes) -> None:
    """One file, on whatever store."""
    fs, path = fsspec.url_to_fs(url)
    fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    fs.pipe_file(path, data)


def npy(array: npt.NDArray[Any], **options: Any) -> bytes:
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    """The bytes of a Parquet file."""
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def sizes(*pairs: tuple[int, int]) -> npt.NDArray[np.float32]:
    """What the encoder `size` gives for pictures of these widths and heights: image_NC."""
    rows = [[w // 256, w % 256, h // 256, h % 256, 1] for w, h in pairs]
    return np.array(rows, dtype=np.float32)


def said(width: int, height: int) -> str:
    """What the model `size` says of such a picture."""
    return f"A picture of {width} by {height} pixels."


def lay_set(url: str, number: str, image_NC: npt.NDArray[Any], columns: dict[str, Any]) -> str:
    """Write one shard below `url`, which is given back."""
    put(f"{url}/img_emb/img_emb_{number}.npy", npy(image_NC))
    put(f"{url}/metadata/metadata_{number}.parquet", parquet(columns))
    return url
