"""Random models small enough for every test: a byte tokenizer, a CLIP folder, a captioner."""

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from captioner.configs import EncoderSpec, MapperConfig, ModelConfig
from captioner.decoding import Greedy
from captioner.folder_encoder import END, START
from captioner.language import fresh_gpt2
from captioner.model import CaptionModel

DIM = 16


def tiny_tokenizer() -> Tokenizer:
    """A token for every byte, and the two marks with the highest ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: at for at, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in (START, END)])
    return tokenizer


def tiny_encoder_folder(folder: Path, *, seed: int = 0, context: int = 12) -> Path:
    """A random CLIP with both towers, in the layout of the packaged encoder."""
    tokenizer = tiny_tokenizer()
    model_cfg = {
        "embed_dim": DIM,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": context,
            "vocab_size": tokenizer.get_vocab_size(),
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    }
    torch.manual_seed(seed)
    model = open_clip.CLIP(**model_cfg)
    folder.mkdir(parents=True)
    config = {
        "format": 1,
        "name": "tiny",
        "model_cfg": model_cfg,
        "preprocess": {
            "size": 32,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.3, 0.3, 0.3],
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
        "normalized": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    state = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def tiny_model(
    *, seed: int = 0, standardise: bool = False, encoder: EncoderSpec | None = None, width: int = 32
) -> CaptionModel:
    """A random captioner with a lively language model: its captions differ from row to row."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    encoder = encoder or EncoderSpec(name="tiny", dim=DIM)
    language = fresh_gpt2(tokenizer, width=width, layers=2, positions=64)
    with torch.no_grad():
        for weight in language.network.parameters():
            weight.mul_(4.0)
    config = ModelConfig(
        encoder=encoder,
        mapper=MapperConfig(image_dim=encoder.dim, token_dim=width, prefix_tokens=3),
        standardise=standardise,
        decoding=Greedy(24, (tokenizer.token_to_id(END),)),
    )
    return CaptionModel(config, language).eval()
