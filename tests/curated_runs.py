"""Runs of captions and embeddings laid out by hand, so that no model is needed to choose rows."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.captions import caption_store, run_settings
from storage.embeddings import (
    embedding_file_schema,
    embedding_settings,
    embedding_store,
    embedding_table,
)
from storage.layout import ShardName, open_root
from storage.parquet import rows_to_table
from storage.schema import CAPTIONS, with_facts

Row = dict[str, Any]


def row(key: str, **given: Any) -> Row:
    """A captioned row; what is not given is plain."""
    plain = {
        "key": key,
        "shard": "0000/00000",
        "path": f"{key}.jpg",
        "url": None,
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "width": 640,
        "height": 480,
        "format": "JPEG",
        "orig_caption": "a dog on a beach",
        "caption": "a brown dog on a beach",
        "caption_logprob": -6.0,
        "n_tokens": 5,
        "clip_sim": 0.31,
        "orig_clip_sim": 0.29,
        "captions": [],
        "phash": None,
        "status": "ok",
        "error_code": "",
        "error_detail": None,
    }
    return plain | given


def failed(key: str, **given: Any) -> Row:
    """A row whose picture could not be read."""
    empty = dict.fromkeys(
        ("caption", "caption_logprob", "n_tokens", "clip_sim", "orig_clip_sim", "width", "height")
    )
    return row(key, status="error", error_code="corrupt", **(empty | given))


def lay_run(
    root: Path | str,
    shards: dict[str, Sequence[Row]],
    *,
    name: str = "run",
    scorer: str = "nano",
    file_scorer: str | None = None,
    space: str = "",
) -> str:
    """Commit the rows of each shard as one run; the root's URL."""
    place = open_root(str(root))
    resolved = {"model": "laid", "scorer": scorer, "embeddings": {"space": space}}
    settled = run_settings(place).settle({"laid": name}, lambda: resolved, title="model", name=name)
    store = caption_store(place, settled)
    facts = {"scorer": scorer if file_scorer is None else file_scorer}
    for shard, rows in shards.items():
        named = [one | {"shard": shard} for one in rows]
        table = rows_to_table(named, CAPTIONS)
        store.commit(ShardName.parse(shard), [table], with_facts(CAPTIONS, facts), ())
    return str(root)


def lay_space(
    root: Path | str, shards: dict[str, tuple[list[Row], npt.NDArray[np.float32]]]
) -> str:
    """Commit embeddings for the rows of each shard; the name of their space."""
    place = open_root(str(root))
    dim = next(iter(shards.values()))[1].shape[1]
    resolved = {
        "encoder": "laid",
        "feature": "projected",
        "normalized": True,
        "dim": dim,
        "value": "float32",
    }
    settled = embedding_settings(place).settle(
        {"laid": 1}, lambda: resolved, title="encoder", name="laid"
    )
    schema = embedding_file_schema(settled)
    names = set(schema.names) - {"embedding"}
    for shard, (rows, image_NC) in shards.items():
        kept = [{name: one[name] for name in names} for one in rows]
        table = embedding_table(kept, image_NC, schema)
        embedding_store(place, settled).commit(ShardName.parse(shard), [table], schema, ())
    return settled.name
