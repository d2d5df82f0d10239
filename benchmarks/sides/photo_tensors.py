"""Photographs to tensors: our decoding and preprocessing, or PIL with open_clip's transform."""

import io
from collections.abc import Callable

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from benchmarks.serving import Facts, Work, serve
from captioner.encoders import load_encoder
from captioner.pictures import decode


def prepare(setup: Facts) -> tuple[Work, Facts]:
    """`how` is ours or pil; files are in memory before the clock starts."""
    torch.set_num_threads(setup["threads"])
    files = []
    for path in setup["files"]:
        with open(path, "rb") as file:  # noqa: PTH123 - no paths in a loop of bytes
            files.append(file.read())
    tensor = _ours(setup["encoder"]) if setup["how"] == "ours" else _pil()

    def work(order: Facts) -> Facts:
        found = [tensor(data) for data in files]
        if order.get("save"):
            torch.save(torch.stack(found), order["save"])
        return {"items": len(found)}

    return work, {}


def _ours(encoder_folder: str) -> Callable[[bytes], torch.Tensor]:
    encoder = load_encoder(encoder_folder, dtype="float32")
    size = encoder.image_size
    return lambda data: encoder.preprocess(decode(data, shrink_to=size).rgb)


def _pil() -> Callable[[bytes], torch.Tensor]:
    transform = image_transform_v2(
        PreprocessCfg(
            size=224, mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD
        ),
        is_train=False,
    )
    return lambda data: transform(Image.open(io.BytesIO(data)))


if __name__ == "__main__":
    serve(prepare)
