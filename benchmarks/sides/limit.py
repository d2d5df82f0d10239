"""What the machine can do at most: matrix products and copies, nothing of anybody's."""

import time
from typing import Any

import torch

from benchmarks.serving import Facts, Work, serve

SIZE = 2048
"""Rows and columns of the matrices."""


def prepare(setup: Facts) -> tuple[Work, Facts]:
    """Matrices of the sizes asked for."""
    torch.set_num_threads(setup["threads"])
    size = setup.get("size", SIZE)
    torch.manual_seed(0)
    pairs = {
        dtype: (torch.randn(size, size).to(kind), torch.randn(size, size).to(kind))
        for dtype, kind in (("bfloat16", torch.bfloat16), ("float32", torch.float32))
    }
    source = torch.ones(setup.get("copy_mib", 256) * 2**18)
    target = torch.empty_like(source)

    def work(order: Facts) -> Facts:
        what, least = order["what"], order.get("least", 0.5)
        if what == "copy":  # bytes read and bytes written
            return _timed(lambda: target.copy_(source), 2 * source.numel() * 4 / 1e9, least)
        a, b = pairs[what]
        return _timed(lambda: a @ b, 2 * size**3 / 1e9, least)

    return work, {}


@torch.inference_mode()
def _timed(call: Any, giga: float, least: float) -> Facts:
    """Repeat for `least` seconds: giga units done, and the time they took."""
    call()
    began, done = time.perf_counter(), 0
    while done < 3 or time.perf_counter() - began < least:
        call()
        done += 1
    return {"items": done * giga, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    serve(prepare)
