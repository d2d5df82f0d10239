"""Embeddings in the store: one row a picture, failed ones too, refused where they do not fit.

Shapes:  N rows   C embedding
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import SchemaError
from storage.layout import Root
from storage.outputs import OutputStore
from storage.parquet import rows_to_table
from storage.schema import embeddings_schema, with_facts
from storage.settled import SettingsFile, Settled
from storage.urls import join

STAGE = "embed"


def embedding_settings(root: Root) -> SettingsFile:
    """Where each encoder's settings are kept: `embeddings/<encoder>-<fp8>/encoder.json`."""
    return SettingsFile(parent=join(root.url, "embeddings"), file="encoder.json")


def embedding_store(root: Root, settled: Settled) -> OutputStore:
    """The embeddings made with `settled`."""
    return OutputStore(root, root.space(settled.name), STAGE, settled.fingerprint)


def embedding_file_schema(settled: Settled) -> pa.Schema:
    """Columns and metadata of the files made with `settled`."""
    facts = {name: str(settled.resolved[name]) for name in ("encoder", "feature", "normalized")}
    dim = int(settled.resolved["dim"])
    schema = embeddings_schema(dim, settled.resolved["value"])
    return with_facts(schema, {**facts, "dim": str(dim), "fingerprint": settled.fingerprint})


def embedding_table(
    rows: Sequence[dict[str, Any]], image_NC: npt.NDArray[np.float32], schema: pa.Schema
) -> pa.Table:
    """`rows` (without their embedding) and `image_NC` as one table; failed rows get null.

    Raises SchemaError for a width other than the schema's or a value that is not finite.
    """
    place = schema.get_field_index("embedding")
    return with_embeddings(rows_to_table(rows, schema.remove(place)), image_NC, schema)


def with_embeddings(
    known: pa.Table, image_NC: npt.NDArray[np.float32], schema: pa.Schema
) -> pa.Table:
    """As `embedding_table`, of rows that are a table already."""
    column = schema.field("embedding")
    kind = column.type
    if image_NC.shape != (len(known), kind.list_size):
        raise SchemaError(f"embeddings are {image_NC.shape}, not {(len(known), kind.list_size)}")
    failed = np.asarray(pc.not_equal(known["status"], "ok"))
    stored = image_NC.astype(kind.value_type.to_pandas_dtype())
    if not np.isfinite(stored[~failed]).all():
        raise SchemaError("an embedding that counts as ok holds values that are not finite")
    values = pa.FixedSizeListArray.from_arrays(
        pa.array(stored.reshape(-1)), type=kind, mask=pa.array(failed)
    )
    return known.append_column(column, values).cast(schema)


def embedding_values(table: pa.Table, name: str = "embedding") -> npt.NDArray[np.float32]:
    """The embeddings in column `name` as image_NC float32; rows that failed are NaN."""
    column = table[name].combine_chunks()
    dim = column.type.list_size
    image_NC = np.full((len(column), dim), np.nan, dtype=np.float32)
    valid = np.asarray(column.is_valid())
    image_NC[valid] = np.asarray(column.flatten(), dtype=np.float32).reshape(-1, dim)
    return image_NC
