"""open_clip behind webdataset and its own PIL transform, embeddings kept as one array."""

import numpy as np
import open_clip
import torch
import webdataset
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.serving import Facts, Work, serve


def prepare(setup: Facts) -> tuple[Work, Facts]:
    """The model in the precision asked for."""
    torch.set_num_threads(setup["threads"])
    model, _, transform = open_clip.create_model_and_transforms(
        "ViT-B-32", pretrained=setup["checkpoint"]
    )
    kind = getattr(torch, setup["dtype"])
    model = model.eval().to(kind)

    @torch.inference_mode()
    def work(order: Facts) -> Facts:
        reader = (
            webdataset.WebDataset(order["tars"], shardshuffle=False, empty_check=False)
            .decode("pil")
            .to_tuple("__key__", "jpg")
            .map_tuple(lambda key: key, transform)
        )
        keys, found = list[str](), []
        for names, pixels_BCHW in DataLoader(reader, batch_size=64, num_workers=order["workers"]):
            image_BC = model.encode_image(pixels_BCHW.to(kind))
            keys += names
            found.append(image_BC.float().numpy().astype(np.float16))
        image_NC = np.concatenate(found)
        if order.get("save"):
            unit_NC = functional.normalize(torch.from_numpy(image_NC).float(), dim=-1)
            torch.save({"keys": keys, "image_NC": unit_NC}, order["save"])
        return {"items": len(image_NC)}

    return work, {}


if __name__ == "__main__":
    serve(prepare)
