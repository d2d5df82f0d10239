"""The columns of every Parquet file Nightcap writes, explicit and versioned, never inferred.

No `map` type (HF datasets cannot read it); an all-null column keeps its type, so that every shard
of a run loads beside the others in every reader.
"""

from collections.abc import Mapping

import pyarrow as pa

SCHEMA_VERSION = 1
"""Raised when a column is added or changes its meaning; enters every fingerprint."""

ROW_GROUP = 10_000
"""Rows a row group: as fast to filter as larger ones, small enough for a dataset viewer."""

ERROR_CODES = {
    "empty": "the file has no bytes",
    "not_image": "the bytes are no picture",
    "unsupported_format": "a picture of a format that is not read",
    "truncated": "the picture ends early",
    "corrupt": "the picture is damaged",
    "too_large": "more pixels or bytes than the limit",
    "bad_aspect": "longer than 20 times its width, or wider than 20 times its height",
    "metadata_error": "EXIF or text chunks that cannot be read",
    "timeout": "took longer than the limit",
    "out_of_memory": "asked for more memory than there is",
    "duplicate_key": "a key that an earlier row of the shard has",
    "missing_member": "listed, but its bytes are not there",
    "worker_killed": "the picture ended the process that read it",
    "model_error": "the model gave no finite value",
    "rejected": "a reviewer refused its captions",
}
"""The closed list of what can be wrong with one picture."""

_STATUS = [
    pa.field("status", pa.string(), nullable=False),
    pa.field("error_code", pa.string(), nullable=False),
    pa.field("error_detail", pa.string()),
]
_SIZE = [
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("format", pa.string()),
]

INDEX = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("path", pa.string()),
        pa.field("url", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("n_bytes", pa.int64()),
        *_SIZE,
        pa.field("captions", pa.list_(pa.string()), nullable=False),
        *_STATUS,
    ]
)
"""One row a source picture: what its shard holds of it."""

CAPTION = pa.struct(
    [
        pa.field("text", pa.string()),
        pa.field("logprob", pa.float32()),
        pa.field("n_tokens", pa.int16()),
        pa.field("clip_sim", pa.float32()),
        pa.field("seed", pa.int64()),
    ]
)
"""One candidate caption; `seed` is null where nothing was drawn at random."""

CAPTIONS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("path", pa.string()),
        pa.field("url", pa.string()),
        pa.field("sha256", pa.string()),
        *_SIZE,
        pa.field("orig_caption", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("caption_logprob", pa.float32()),
        pa.field("n_tokens", pa.int16()),
        pa.field("clip_sim", pa.float32()),
        pa.field("orig_clip_sim", pa.float32()),
        pa.field("captions", pa.list_(CAPTION), nullable=False),
        pa.field("phash", pa.uint64()),
        *_STATUS,
    ]
)
"""One row a source picture, captioned or failed."""


def embeddings_schema(dim: int, dtype: str) -> pa.Schema:
    """One row a picture with its embedding (null where it failed), `float16` or `float32`."""
    value = {"float16": pa.float16(), "float32": pa.float32()}[dtype]
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("sha256", pa.string()),
            *_SIZE,
            pa.field("phash", pa.uint64()),
            *_STATUS,
            pa.field("embedding", pa.list_(value, dim)),
        ]
    )


def with_facts(schema: pa.Schema, facts: Mapping[str, str]) -> pa.Schema:
    """`schema` carrying `facts` as its key-value metadata, each under `nightcap.`."""
    facts = {"schema_version": str(SCHEMA_VERSION), **facts}
    return schema.with_metadata({f"nightcap.{key}": value for key, value in sorted(facts.items())})


def facts_of(schema: pa.Schema) -> dict[str, str]:
    """What `with_facts` put there."""
    return {
        key.decode().removeprefix("nightcap."): value.decode()
        for key, value in (schema.metadata or {}).items()
        if key.startswith(b"nightcap.")
    }
