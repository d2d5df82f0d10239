"""Our encoder on pictures that are decoded already."""

import torch

from benchmarks.serving import Facts, Work, serve
from captioner.devices import resolve_numerics, use_threads
from captioner.encoders import load_encoder


def prepare(setup: Facts) -> tuple[Work, Facts]:
    """The encoder, and pixels of as many pictures as one call gets."""
    use_threads(setup["threads"])
    encoder = load_encoder(setup["encoder"], dtype=setup["dtype"])
    batch = setup.get("batch") or resolve_numerics(dtype=setup["dtype"]).batch_size
    pixels_BCHW = torch.randn(batch, 3, encoder.image_size, encoder.image_size)

    def work(order: Facts) -> Facts:
        calls = -(-order["items"] // batch)
        for _ in range(calls):
            encoder.encode_images(pixels_BCHW)
        return {"items": calls * batch}

    return work, {"batch": batch}


if __name__ == "__main__":
    serve(prepare)
