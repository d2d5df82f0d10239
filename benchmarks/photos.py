"""Photographs of 12 megapixels to an encoder's tensors, against PIL and open_clip's transform."""

from contextlib import ExitStack
from pathlib import Path

import torch
from torch.nn import functional

from benchmarks.comparing import in_turns, versus
from benchmarks.random_clip import random_clip
from benchmarks.results import Row
from benchmarks.settings import Settings
from benchmarks.side import Side, SideSpec
from captioner.encoders import Encoder, load_encoder
from captioner.photographs import photograph


def rows(settings: Settings) -> list[Row]:
    """One row; its note has the least cosine between the embeddings of both."""
    clip = random_clip(settings.cache)
    size = (800, 600) if settings.quick else (4000, 3000)
    files = photographs(settings.cache, settings.items(6, 2), size)
    with ExitStack() as stack:
        sides = {
            how: stack.enter_context(
                Side(
                    SideSpec(
                        name=how,
                        module="photo_tensors",
                        setup={"how": how, "files": files, "encoder": str(clip.folder)},
                        threads=1,
                    )
                )
            )
            for how in ("ours", "pil")
        }
        scratch = Path(stack.enter_context(settings.scratch()))
        pixels = []
        for how, side in sides.items():
            side.run({"save": str(scratch / how)})
            pixels.append(torch.load(scratch / how, weights_only=True))
        note = likeness(load_encoder(clip.folder, dtype="float32"), *pixels)
        rates = in_turns({how: side.run for how, side in sides.items()}, settings.rounds)
        return [
            versus(
                rates["ours"],
                rates["pil"],
                3,
                benchmark="photos",
                name=f"photos of {size[0]}x{size[1]} to tensors, one thread, against PIL",
                unit="/s",
                peak_mib=sides["ours"].peak_mib,
                peer_peak_mib=sides["pil"].peak_mib,
                note=note,
            )
        ]


def likeness(encoder: Encoder, ours_BCHW: torch.Tensor, pil_BCHW: torch.Tensor) -> str:
    """How alike the tensors are. Random towers take all pictures for alike, so the mean of all is
    taken off their embeddings, and off the pixels, before cosines are computed."""
    pixels = [_centred(each.flatten(1), pil_BCHW.flatten(1)) for each in (ours_BCHW, pil_BCHW)]
    theirs_BC = encoder.encode_images(pil_BCHW)
    seen = [_centred(each, theirs_BC) for each in (encoder.encode_images(ours_BCHW), theirs_BC)]
    least = [float(functional.cosine_similarity(*pair).min()) for pair in (pixels, seen)]
    return (
        f"least cosine, the mean of all photos taken off: {least[0]:.5f} of pixels, {least[1]:.5f} "
        "of ViT-B-32's embeddings (random weights)"
    )


def _centred(each_BC: torch.Tensor, all_BC: torch.Tensor) -> torch.Tensor:
    return each_BC - all_BC.mean(dim=0)


def photographs(cache: Path, count: int, size: tuple[int, int]) -> list[str]:
    """Files that are made once and kept."""
    folder = cache / f"photographs-{size[0]}x{size[1]}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            path.write_bytes(photograph(*size, seed=number))
    return [str(path) for path in paths]
