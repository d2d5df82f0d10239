"""Train nano's image and text towers on drawn scenes: `python -m captioner.nano.train_encoder`.

A contrastive loss over batches of near misses, helped by heads that must read every attribute
and are thrown away afterwards. The weights are examined as they will be stored, in fp16, on
scenes that no training has seen, and written only if they pass.

Shapes:  B batch   C embedding   T tokens   A attributes
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from captioner.nano.lessons import ABSENT, ATTRIBUTES, Lesson, examination, lessons
from captioner.nano.tokens import token_ids, train_tokenizer
from captioner.nano.towers import IMAGE_SIZE, Pupil, halved, save

GOAL: Final = 0.95
"""Least retrieval@1 on unseen scenes with which an encoder is written."""
STEPS: Final = 1000
_EXAM_SEED: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the towers are trained."""

    steps: int
    """Longer learns the rare confusions; the learning rate falls over all of them."""
    batch: int = 256
    """Scenes a step."""
    told: int = 128
    """How many of them are also put in words; the text tower is the easier to teach."""
    lr: float = 2e-3
    """Peak learning rate of AdamW."""
    warmup: int = 40
    """Steps until the peak."""
    weight_decay: float = 0.05
    """On matrices and kernels alone."""

    def rate(self, step: int) -> float:
        """The share of the peak rate at `step`: a linear rise, then half a cosine to zero."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        left = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.5 + 0.5 * math.cos(math.pi * left)


def train(recipe: Recipe, seed: int, device: str) -> tuple[Pupil, Tokenizer]:
    """Train from scratch, printing how it goes."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer()
    pupil = Pupil(tokenizer.get_vocab_size()).to(memory_format=torch.channels_last).to(device)
    optimizer = _optimizer(pupil, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.rate)
    exam = examination(500, IMAGE_SIZE, _EXAM_SEED)
    started = time.monotonic()
    for step, lesson in enumerate(islice(lessons(recipe.batch, IMAGE_SIZE, seed), recipe.steps), 1):
        ids_BT = token_ids(tokenizer, lesson.captions[: recipe.told], pupil.towers.context_length)
        loss = _loss(pupil, lesson, ids_BT.to(device))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            seconds = time.monotonic() - started
            _say(f"step {step}, {seconds:.0f} s, loss {float(loss.detach()):.3f}:")
            _say(f"  {_told(pupil, tokenizer, exam)}")
    return pupil, tokenizer


def _optimizer(pupil: Pupil, recipe: Recipe) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [
        {
            "params": [p for p in pupil.parameters() if p.ndim > 1],
            "weight_decay": recipe.weight_decay,
        },
        {"params": [p for p in pupil.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98))


def _loss(pupil: Pupil, lesson: Lesson, ids_BT: Tensor) -> Tensor:
    """CLIP's symmetric cross entropy (Radford et al. 2021, figure 3) plus the heads' losses."""
    device, told = ids_BT.device, len(ids_BT)
    # The fused attention of CPUs is several times slower backwards than plain arithmetic.
    with torch.autocast(device.type, torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        image_BC, cells_BFGG = pupil.see(lesson.pixels.to(device))
        text_BC = pupil.hear(ids_BT)
    scale = pupil.towers.logit_scale.exp().clamp(max=100)
    logits_BB = scale * F.normalize(image_BC[:told], dim=1) @ F.normalize(text_BC, dim=1).T
    pairs_B = torch.arange(told, device=device)
    contrast = (F.cross_entropy(logits_BB, pairs_B) + F.cross_entropy(logits_BB.T, pairs_B)) / 2
    labels_BA = lesson.labels.to(device)
    reading = pupil.reading_loss(image_BC, labels_BA)
    reading = reading + pupil.reading_loss(text_BC, labels_BA[:told])
    return contrast + reading + pupil.local_loss(cells_BFGG, lesson)


def _told(pupil: Pupil, tokenizer: Tokenizer, lesson: Lesson) -> str:
    read = legibility(pupil, lesson)
    return ", ".join(
        [
            f"retrieval@1 {retrieval(pupil, tokenizer, lesson):.3f}",
            *(f"{name} {share:.3f}" for name, share in read.items()),
        ]
    )


@torch.inference_mode()
def _embed_pictures(pupil: Pupil, lesson: Lesson) -> Tensor:
    pupil.eval()
    image_BC, _ = pupil.see(lesson.pixels.to(next(pupil.parameters()).device))
    pupil.train()
    return image_BC


@torch.inference_mode()
def retrieval(pupil: Pupil, tokenizer: Tokenizer, lesson: Lesson) -> float:
    """The share of pictures whose own caption is the nearest of all (retrieval@1)."""
    image_BC = _embed_pictures(pupil, lesson)
    ids_BT = token_ids(tokenizer, lesson.captions, pupil.towers.context_length)
    padded_BT = F.pad(ids_BT, (0, pupil.towers.context_length - ids_BT.shape[1]))
    text_BC = pupil.towers.encode_text(padded_BT.to(image_BC.device), normalize=True)
    nearest_B = (image_BC @ text_BC.T).argmax(dim=1).cpu()
    return float((nearest_B == torch.arange(len(nearest_B))).float().mean())


def legibility(pupil: Pupil, lesson: Lesson) -> dict[str, float]:
    """The share of pictures from whose embedding the head reads each attribute right.

    `all` is the share with no attribute wrong: about what a captioner can hope for.
    """
    with torch.inference_mode():
        logits = pupil.read(_embed_pictures(pupil, lesson))
    said_BA = torch.stack([logits_BW.argmax(dim=1) for logits_BW in logits], dim=1).cpu()
    there_BA = lesson.labels != ABSENT
    wrong_BA = there_BA & (said_BA != lesson.labels)
    shares_A = 1 - wrong_BA.sum(dim=0) / there_BA.sum(dim=0)
    read = dict(zip(ATTRIBUTES, shares_A.tolist(), strict=True))
    return read | {"all": float((~wrong_BA.any(dim=1)).float().mean())}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, examine and write; exit code 1, and nothing written, if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the encoder")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another tower")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="of torch, on a CPU")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    pupil, tokenizer = train(Recipe(steps=chosen.steps), chosen.seed, chosen.device)
    pupil.towers.load_state_dict(halved(pupil.towers))
    exam = examination(500, IMAGE_SIZE, _EXAM_SEED)
    score, read = retrieval(pupil, tokenizer, exam), legibility(pupil, exam)
    _say(f"as fp16, on 500 unseen scenes: {_told(pupil, tokenizer, exam)}")
    if score < GOAL:
        _say(f"retrieval@1 {score:.3f} is below {GOAL}: nothing written; more --steps?")
        return 1
    facts = {"seed": chosen.seed, "steps": chosen.steps, "retrieval_at_1": score, "legible": read}
    save(pupil.towers, tokenizer, chosen.out, facts)
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
