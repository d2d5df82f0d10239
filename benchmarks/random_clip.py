"""A ViT-B-32 with random weights, as each side loads it: all compute the same embeddings."""

import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

ARCHITECTURE = "ViT-B-32"
GIGAFLOPS = 2 * (12 * 12 * 768**2 * 50 + 3 * 32**2 * 768 * 49 + 768 * 512) / 1e9
"""Work of a picture: two operations a weight and position (12 blocks at 50, patches at 49, the
projection at 1), as for captions; attention over 50 positions is left out (1 %)."""


@dataclass(frozen=True, slots=True)
class RandomClip:
    """Where the weights lie."""

    folder: Path
    """As `load_encoder` takes it."""
    checkpoint: Path
    """As open_clip's `pretrained` takes it."""


def random_clip(cache: Path) -> RandomClip:
    """Made once and kept."""
    folder = cache / "random-vit-b-32"
    if not folder.exists():
        partial = cache / f"random-vit-b-32.{uuid.uuid4().hex}"
        partial.mkdir(parents=True)
        _make(partial)
        try:
            partial.rename(folder)
        except OSError:  # another run was faster
            shutil.rmtree(partial)
    return RandomClip(folder, folder / "open_clip.pt")


def _make(folder: Path) -> None:
    torch.manual_seed(0)
    settings = open_clip.get_model_config(ARCHITECTURE)
    model = open_clip.CLIP(
        **{key: settings[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
    )
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    torch.save(state, folder / "open_clip.pt")
    save_file(state, folder / "model.safetensors")
    config = {
        "format": 1,
        "name": "random-vit-b-32",
        "model_cfg": {key: settings[key] for key in ("embed_dim", "vision_cfg", "text_cfg")},
        "preprocess": {
            "size": 224,
            "mean": open_clip.OPENAI_DATASET_MEAN,
            "std": open_clip.OPENAI_DATASET_STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
        "normalized": True,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: at for at, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = ("<|startoftext|>", "<|endoftext|>")
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    tokenizer.save(str(folder / "tokenizer.json"))
