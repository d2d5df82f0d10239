"""Photographs of 12 megapixels to an encoder's tensors, against PIL and open_clip's transform."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.comparing import in_turns, versus
from benchmarks.likeness import LEAST, least_cosine
from benchmarks.random_clip import random_clip
from benchmarks.results import Row
from benchmarks.settings import Settings
from benchmarks.side import Side, SideSpec
from captioner.encoders import Encoder, load_encoder
from captioner.photographs import photograph


def rows(settings: Settings) -> list[Row]:
    """One row; its aim is a speed, and cosines with what PIL gives."""
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
        encoder = load_encoder(clip.folder, dtype="float32")
        rates = in_turns({how: side.run for how, side in sides.items()}, settings.rounds)
        row = versus(
            rates["ours"],
            rates["pil"],
            3,
            benchmark="photos",
            name=f"photos of {size[0]}x{size[1]} to tensors, one thread, against PIL",
            unit="/s",
            peak_mib=sides["ours"].peak_mib,
            peer_peak_mib=sides["pil"].peak_mib,
        )
        return [alike(row, encoder, *pixels)]


def alike(row: Row, encoder: Encoder, ours_BCHW: torch.Tensor, pil_BCHW: torch.Tensor) -> Row:
    """The row, reached only if tensors and their embeddings are like PIL's too."""
    pixels = least_cosine(ours_BCHW.flatten(1), pil_BCHW.flatten(1))
    seen = least_cosine(*map(encoder.encode_images, (ours_BCHW, pil_BCHW)))
    aim = LEAST["float32"]
    return replace(
        row,
        aim=f"{row.aim}, cosine >= {aim:g}",
        reached=bool(row.reached) and pixels >= aim and seen >= aim,
        note=(
            f"least cosine, the mean of all photos taken off: {pixels:.5f} of pixels, {seen:.5f} "
            "of ViT-B-32's embeddings (random weights)"
        ),
    )


def photographs(cache: Path, count: int, size: tuple[int, int]) -> list[str]:
    """Files that are made once and kept."""
    folder = cache / f"photographs-{size[0]}x{size[1]}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            path.write_bytes(photograph(*size, seed=number))
    return [str(path) for path in paths]
