"""Our embed stage on tars: the work of a lane, from the tar's bytes to the committed Parquet."""

import shutil
import time

from benchmarks.serving import Facts, Work, serve
from captioner.devices import use_threads
from storage.layout import open_root
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

    def work(order: Facts) -> Facts:
        del order
        began = time.perf_counter()
        rows = sum(embed_shard(job).rows for job in jobs)
        seconds = time.perf_counter() - began
        for batch in batches:
            shutil.rmtree(f"{root.space(settled.name)}/{batch}")
        return {"items": rows, "seconds": seconds}

    return work, {"dtype": settled.resolved["numerics"]["dtype"]}


if __name__ == "__main__":
    serve(prepare)
