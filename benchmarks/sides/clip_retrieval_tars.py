"""clip-retrieval's inference on tars, by its own entry point; runs in an environment of its own.

It loads the model in every call, so an order names a short and a long list of tars: the time
between the two calls is that of the pictures between them.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from clip_retrieval.clip_inference.main import main

from benchmarks.serving import Facts, Work, serve


def prepare(setup: Facts) -> tuple[Work, Facts]:
    """Nothing but threads: its entry point does the rest."""
    torch.set_num_threads(setup["threads"])

    def infer(tars: list[str], each: int, workers: int) -> float:
        out = tempfile.mkdtemp()
        began = time.perf_counter()
        main(
            ",".join(tars) if len(tars) == 1 else _braces(tars),
            out,
            input_format="webdataset",
            enable_text=False,
            enable_image=True,
            enable_metadata=False,
            clip_model=f"open_clip:ViT-B-32/{setup['checkpoint']}",
            num_prepro_workers=workers,
            batch_size=setup.get("batch", 64),
            wds_number_file_per_input_file=each,
        )
        seconds = time.perf_counter() - began
        written = sum(len(np.load(path)) for path in Path(out).rglob("img_emb*.npy"))
        shutil.rmtree(out)
        if written != each * len(tars):
            sys.exit(f"it wrote {written} embeddings of {each * len(tars)}")
        return seconds

    def work(order: Facts) -> Facts:
        each, workers, tars = order["each"], order["workers"], order["tars"]
        short = infer(tars[:1], each, min(workers, 1))
        long = infer(tars, each, workers)
        return {"items": each * (len(tars) - 1), "seconds": long - short, "start": short}

    return work, {}


def _braces(tars: list[str]) -> str:
    folder, names = str(Path(tars[0]).parent), [Path(tar).stem for tar in tars]
    return f"{folder}/{{{names[0]}..{names[-1]}}}.tar"


if __name__ == "__main__":
    serve(prepare)
