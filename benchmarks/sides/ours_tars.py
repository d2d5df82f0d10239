"""Our embed stage on tars: the work of a lane, from the tar's bytes to the committed Parquet."""

import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.serving import Facts, Work, serve
from captioner.devices import use_threads
from storage.embeddings import embedding_store, embedding_values
from storage.layout import ShardName, open_root
from storage.receipts import Receipt
from tasks.options import ComputeOptions, EmbedOptions
from tasks.outstanding import unembedded
from tasks.settings.embed import settle_embeddings
from tasks.units.embed import embed_shard
from tasks.units.jobs import EmbedJob


def prepare(setup: Facts) -> tuple[Work, Facts]:
    """The root, whose tars are cut or adopted already, and the stage's settings."""
    use_threads(setup["threads"])
    root = open_root(setup["root"])
    compute = ComputeOptions(dtype=setup["dtype"], threads=setup["threads"], offline=True)
    options = EmbedOptions(encoder=setup["encoder"], compute=compute)
    settled = settle_embeddings(root, options, 1)
    jobs = [
        EmbedJob(root=setup["root"], shard=str(name), space=settled.name, encoder=setup["encoder"])
        for name in unembedded(root, settled).shards
    ]
    batches = {job.shard.split("/")[0] for job in jobs}
    store = embedding_store(root, settled)

    def work(order: Facts) -> Facts:
        began = time.perf_counter()
        rows = embedded([embed_shard(job) for job in jobs])
        seconds = time.perf_counter() - began
        if order.get("save"):
            tables = [table for job in jobs for table in store.read(ShardName.parse(job.shard))]
            torch.save(_shown(tables), order["save"])
        for batch in batches:
            shutil.rmtree(f"{root.space(settled.name)}/{batch}")
        return {"items": rows, "seconds": seconds}

    return work, {"dtype": settled.resolved["numerics"]["dtype"]}


def embedded(receipts: Sequence[Receipt]) -> int:
    """Pictures of these shards; ends this side if one of them failed, which costs no embedding."""
    rows = sum(receipt.rows for receipt in receipts)
    if failures := [receipt.failures for receipt in receipts if receipt.failures]:
        failed = sum(sum(one.values()) for one in failures)
        sys.exit(f"{failed} of {rows} pictures failed: {', '.join(sorted(set().union(*failures)))}")
    return rows


def _shown(tables: Sequence[pa.Table]) -> dict[str, Any]:
    keys = [key for table in tables for key in table["key"].to_pylist()]
    image_NC = np.concatenate([embedding_values(table) for table in tables])
    return {"keys": keys, "image_NC": torch.from_numpy(image_NC)}


if __name__ == "__main__":
    serve(prepare)
