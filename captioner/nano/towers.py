"""nano's image and text towers, the reading heads that teach them, and the files they become.

Shapes:  B batch   C embedding   T, D tokens and their width   A attributes
         H, W height and width in px   F, G, G features on a coarse grid
"""

import json
from pathlib import Path
from typing import Any, Final

import torch
from open_clip import CLIP
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from captioner.nano.lessons import ABSENT, ATTRIBUTES, Lesson
from captioner.nano.tokens import END, START

IMAGE_SIZE: Final = 64
MEAN: Final = (0.5, 0.5, 0.5)
STD: Final = (0.3, 0.3, 0.3)
_WIDTH: Final = 16
_LOCAL: Final = ("size", "texture", "colour", "shape")
"""What can be seen of a single thing, without its neighbours."""


def model_cfg(vocab_size: int) -> dict[str, Any]:
    """The CLIP configuration, as keyword arguments of `open_clip.CLIP`."""
    return {
        "embed_dim": 256,
        "vision_cfg": {
            "image_size": IMAGE_SIZE,
            "layers": [2, 2, 1, 1],
            "width": _WIDTH,
            "head_width": 64,
        },
        "text_cfg": {
            "context_length": 48,
            "vocab_size": vocab_size,
            "width": 128,
            "heads": 4,
            "layers": 2,
        },
    }


class Pupil(nn.Module):
    """The towers, and linear heads that are thrown away once they have been taught.

    One head reads every attribute from either embedding; the other reads from each cell of the
    image tower's 8 x 8 features what stands there.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.towers = CLIP(**model_cfg(vocab_size))
        dim = int(self.towers.text_projection.shape[1])
        self.head = nn.Linear(dim, sum(map(len, ATTRIBUTES.values())))
        words = sum(len(ATTRIBUTES[f"first {name}"]) for name in _LOCAL)
        self.local = nn.Conv2d(8 * _WIDTH, words, 1)

    def see(self, pixels_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """Embed pictures (uint8), not normalised: image_BC, and cells_BFGG on the way."""
        pixels_BCHW = pixels_BHWC.permute(0, 3, 1, 2).float() / 255
        mean, std = (pixels_BCHW.new_tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
        pixels_BCHW = ((pixels_BCHW - mean) / std).contiguous(memory_format=torch.channels_last)
        tower: Any = self.towers.visual
        cells_BFGG = tower.layer2(tower.layer1(tower.stem(pixels_BCHW)))
        return tower.attnpool(tower.layer4(tower.layer3(cells_BFGG))).float(), cells_BFGG

    def hear(self, ids_BT: Tensor) -> Tensor:
        """Embed texts as `CLIP.encode_text` does, without padding them to its context: text_BC."""
        towers: Any = self.towers
        width = ids_BT.shape[1]
        tokens_BTD = towers.token_embedding(ids_BT) + towers.positional_embedding[:width]
        tokens_BTD = towers.transformer(tokens_BTD, attn_mask=towers.attn_mask[:width, :width])
        end_BD = towers.ln_final(tokens_BTD)[torch.arange(len(ids_BT)), ids_BT.argmax(dim=1)]
        text_BC: Tensor = end_BD @ towers.text_projection
        return text_BC.float()

    def read(self, embedding_BC: Tensor) -> list[Tensor]:
        """The head's logits for each attribute."""
        sizes = [len(words) for words in ATTRIBUTES.values()]
        return list(torch.split(self.head(embedding_BC), sizes, dim=1))

    def reading_loss(self, embedding_BC: Tensor, labels_BA: Tensor) -> Tensor:
        """The head's cross entropy, summed over the attributes."""
        losses = [
            F.cross_entropy(logits, labels_B, ignore_index=ABSENT)
            for logits, labels_B in zip(self.read(embedding_BC), labels_BA.T, strict=True)
        ]
        return torch.stack(losses).sum()

    def local_loss(self, cells_BFGG: Tensor, lesson: Lesson) -> Tensor:
        """The cross entropy of what stands in each cell that something owns, summed likewise."""
        owners_BGG = lesson.owners.to(cells_BFGG.device)
        labels_BA = lesson.labels.to(cells_BFGG.device)
        sizes = [len(ATTRIBUTES[f"first {name}"]) for name in _LOCAL]
        losses = []
        all_logits = torch.split(self.local(cells_BFGG.float()), sizes, dim=1)
        for name, logits in zip(_LOCAL, all_logits, strict=True):
            both = [list(ATTRIBUTES).index(f"{which} {name}") for which in ("first", "second")]
            said_BN = labels_BA[:, both].gather(1, owners_BGG.clamp(min=0).flatten(1))
            said_BGG = said_BN.view_as(owners_BGG).where(owners_BGG != ABSENT, ABSENT)
            losses.append(F.cross_entropy(logits, said_BGG, ignore_index=ABSENT))
        return torch.stack(losses).sum()


def halved(towers: CLIP) -> dict[str, Tensor]:
    """The towers' state dict on the CPU, its floats as fp16."""
    return {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in towers.state_dict().items()
    }


def save(towers: CLIP, tokenizer: Tokenizer, folder: Path, facts: dict[str, Any]) -> None:
    """Write config.json, model.safetensors (fp16) and tokenizer.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "format": 1,
        "name": "nano",
        "model_cfg": model_cfg(tokenizer.get_vocab_size()),
        "preprocess": {
            "size": IMAGE_SIZE,
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
        "normalized": True,
        "tokens": {"start": START, "end": END, "pad_id": 0},
        "training": facts,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = folder / "model.safetensors"
    save_file(halved(towers), weights)
    weights.chmod(0o644)
    tokenizer.save(str(folder / "tokenizer.json"))
