"""Our captioner on embeddings, through `load_model` and `candidates`."""

import torch

from benchmarks.gated import Gated, gated_images
from benchmarks.serving import Facts, Work, serve
from captioner.decoding import decoding_from_json
from captioner.devices import resolve_numerics, use_threads
from captioner.model import load_model


def prepare(setup: Facts) -> tuple[Work, Facts]:
    """The model, and embeddings for the largest order; `rows_per_call` 0 gives all at once."""
    use_threads(setup["threads"])
    dtype = setup["dtype"]
    numerics = resolve_numerics(dtype=dtype)
    model = load_model(setup["folder"], dtype=dtype)
    image_BC, _ = gated_images(Gated(**setup["gated"]), setup["count"])
    decoding = decoding_from_json(setup["decoding"])
    rows = setup["rows_per_call"] or setup["count"]

    def work(order: Facts) -> Facts:
        parts = torch.split(image_BC[: order["items"]], rows)
        captions = [row[0] for part in parts for row in model.candidates(part, decoding)]
        found: Facts = {"items": len(captions)}
        if order.get("show"):
            stop = list(decoding.stop_ids)
            found["token_ids"] = [[*one.token_ids, *stop] for one in captions]
        return found

    return work, {"batch_size": numerics.batch_size, "dtype": dtype}


if __name__ == "__main__":
    serve(prepare)
