"""Planted near-copies are found, through shard and embed with nano, whatever pictures are like."""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageEnhance

from captioner.scenes import draw, sample
from storage.duplicate_methods import Methods
from storage.duplicates import DuplicateOptions, find_duplicates
from storage.layout import ShardName, open_root
from storage.shards import ShardStore

COPIES = 6


def scenes(count: int, size: int) -> Iterator[Image.Image]:
    for number, scene in enumerate(sample(count, 7)):
        yield draw(scene, size=size, seed=number + 1).convert("RGB")


def textures(count: int, size: int) -> Iterator[Image.Image]:
    """Noise as rough as photographs are, each in colours of its own."""
    rate = np.fft.fftfreq(size)
    far = np.sqrt(rate[:, None] ** 2 + rate[None] ** 2)
    far[0, 0] = 1
    for number in range(count):
        noise = np.random.default_rng(number)

        def layer(power: float, noise: np.random.Generator = noise) -> np.ndarray:
            white = np.fft.fft2(noise.standard_normal((size, size)))
            rough = np.fft.ifft2(white / far**power).real
            return rough / rough.std()

        base = layer(noise.uniform(0.8, 1.6))
        bands = [noise.uniform(60, 190) + noise.uniform(20, 60) * (base + layer(1.2) / 2)
                 for _ in range(3)]  # fmt: skip
        yield Image.fromarray(np.clip(np.stack(bands, -1), 0, 255).astype(np.uint8))


def plant(folder: Path, pictures: Iterator[Image.Image]) -> None:
    """Each picture and five near-copies of it, named by its number."""
    folder.mkdir()
    for number, picture in enumerate(pictures):
        side, edge = picture.width, round(picture.width * 0.025)
        stem = f"{folder}/{number:03}"
        picture.save(f"{stem}-a.png")
        picture.resize((side * 3 // 4,) * 2, Image.Resampling.LANCZOS).save(f"{stem}-small.png")
        picture.resize((side * 3 // 2,) * 2, Image.Resampling.BICUBIC).save(f"{stem}-large.jpg")
        picture.save(f"{stem}-q50.jpg", quality=50)
        picture.crop((edge, edge, side - edge, side - edge)).save(f"{stem}-crop.png")
        ImageEnhance.Brightness(picture).enhance(1.1).save(f"{stem}-bright.png")


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("kind", [scenes, textures])
def test_near_copies_are_found_and_nothing_else(kind: object, tmp_path: Path) -> None:
    from flows.embed import embed
    from flows.shard import shard
    from tasks.ingest import IngestOptions
    from tasks.options import ComputeOptions, EmbedOptions, LaneOptions

    assert callable(kind)
    plant(tmp_path / "pictures", kind(200, 256))
    root, here = str(tmp_path / "root"), LaneOptions(lanes=0)
    shard(str(tmp_path / "pictures"), root, IngestOptions(), here)
    embed(root, EmbedOptions(encoder="nano", compute=ComputeOptions(threads=1)), here)
    index = ShardStore(open_root(root)).index(ShardName("0000", "00000"))
    path_of = {one["key"]: one["path"] for table in index for one in table.to_pylist()}
    found = find_duplicates(root, Methods(), DuplicateOptions(threads=1))
    groups: dict[str, list[str]] = {}
    for one in pq.read_table(found.outputs[0]).to_pylist():
        groups.setdefault(one["dup_group"], []).append(path_of[one["key"]][:3])
    told = Counter(one == other for part in groups.values() for one, other in combinations(part, 2))
    pairs = 200 * COPIES * (COPIES - 1) // 2
    assert told[True] / pairs >= 0.95
    assert told[True] / told.total() >= 0.99
