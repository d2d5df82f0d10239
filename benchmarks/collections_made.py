"""Collections for the orchestration benchmarks: tiny pictures, and embeddings kept in files."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from captioner import scenes
from captioner.configs import Form
from captioner.encoders import load_encoder
from captioner.nano.train_captioner import embed_scenes

_DRAWN = 512  # scenes drawn; rows differ from them by noise


def tiny_pictures(folder: Path, count: int) -> Path:
    """PNGs of 16 by 16 pixels, each of another colour, a thousand a folder."""
    for number in range(count):
        place = folder / f"{number // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        colour = (number % 256, number // 256 % 256, number // 65536)
        Image.new("RGB", (16, 16), colour).save(place / f"{number:07d}.png", compress_level=1)
    return folder


def stored_embeddings(folder: Path, rows: int, per_file: int = 50_000) -> Path:
    """Embeddings of `nano` in clip-retrieval's layout, each row another one."""
    encoder = load_encoder("nano", Form(), device="cpu")
    drawn = scenes.sample(_DRAWN, 1, held_out=False)
    image_NC = torch.stack(list(embed_scenes(drawn, encoder, 1))).numpy()
    noise = np.random.default_rng(0)
    for place in ("img_emb", "metadata"):
        (folder / place).mkdir(parents=True)
    for number, start in enumerate(range(0, rows, per_file)):
        count = min(per_file, rows - start)
        array = _near(image_NC, count, noise)
        np.save(folder / "img_emb" / f"img_emb_{number:04d}.npy", array)
        keys = [f"{start + row:09d}" for row in range(count)]
        table = pa.table({"image_path": keys})
        pq.write_table(table, folder / "metadata" / f"metadata_{number:04d}.parquet")
    return folder


def _near(
    image_NC: npt.NDArray[np.float32], count: int, noise: np.random.Generator
) -> npt.NDArray[np.float16]:
    chosen = image_NC[noise.integers(0, len(image_NC), count)]
    moved = chosen + noise.normal(scale=0.01 / chosen.shape[1] ** 0.5, size=chosen.shape)
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float16)
