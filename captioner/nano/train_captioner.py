"""Train nano's captioner on drawn scenes: `python -m captioner.nano.train_captioner`.

A fresh mapper and a fresh small GPT-2 learn to describe embeddings of the packaged encoder (or
of another one's folder); then scenes whose descriptions no training has seen are captioned and
judged. What is written is a model directory with fp16 weights.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from captioner import scenes
from captioner.beginnings import begin
from captioner.checkpoints import MemoryCheckpoints
from captioner.devices import use_threads
from captioner.encoders import Encoder, load_encoder, spec_of
from captioner.examples import write_examples
from captioner.model import CaptionModel, load_model
from captioner.recipes import find_recipe
from captioner.scenes import Scene
from captioner.training import Progress, train

SIZES_PX = (64, 96, 112, 128, 160)
"""Scenes are drawn in these sizes, because a picture to caption may have any."""
EXAM_SEED = 500


def embed_scenes(chosen: Sequence[Scene], encoder: Encoder, seed: int) -> Iterator[Tensor]:
    """The embedding (C) of one drawing of each scene, in order; one part is drawn ahead."""
    starts = range(0, len(chosen), 256)
    parts = [(chosen[start : start + 256], f"{seed} {start}") for start in starts]
    with ThreadPoolExecutor(1) as artist:
        ahead = (artist.submit(_pixels, part, encoder, name) for part, name in parts)
        waiting = list(islice(ahead, 1))
        while waiting:
            pixels_BCHW = waiting.pop().result()
            waiting += islice(ahead, 1)
            yield from encoder.encode_images(pixels_BCHW)


def attribute_share(model: CaptionModel, encoder: Encoder, count: int, seed: int) -> float:
    """The share (0 to 1) of unseen scenes whose caption says every attribute, each rightly."""
    chosen = scenes.sample(count, seed, held_out=True)
    image_BC = torch.stack(list(embed_scenes(chosen, encoder, seed)))
    captions = [
        caption
        for start in range(0, count, 250)
        for caption in model.caption_embeddings(image_BC[start : start + 250])
    ]
    judged = zip(captions, chosen, strict=True)
    return sum(scenes.attribute_true(caption.text, scene) for caption, scene in judged) / count


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, judge and write; exit code 1 if the written model misses the goal."""
    chosen = _parser().parse_args(arguments)
    use_threads(chosen.threads)
    encoder = load_encoder(chosen.encoder)
    recipe = find_recipe(chosen.recipe).changed({"min_steps": chosen.steps, "epochs": 1})
    recipe = recipe.changed({"seed": chosen.seed, "val_fraction": 0.02})
    began = time.perf_counter()
    model = begin(recipe, spec_of(encoder))
    drawn = scenes.sample(chosen.scenes, chosen.seed)
    pairs = zip(
        (image_C.numpy() for image_C in embed_scenes(drawn, encoder, chosen.seed)),
        (scenes.captions(scene, 5, at) for at, scene in enumerate(drawn)),
        strict=True,
    )
    with tempfile.TemporaryDirectory() as scratch:
        examples = write_examples(
            Path(scratch), pairs, model.language.tokens, max_tokens=recipe.max_caption_tokens
        )
        _say(f"{len(examples)} scenes drawn and embedded, {time.perf_counter() - began:.0f} s")
        train(model, examples, recipe, checkpoints=MemoryCheckpoints(), report=_report)
    _say(f"trained, {time.perf_counter() - began:.0f} s")
    model.save(chosen.out, dtype="float16")
    share = attribute_share(load_model(chosen.out, device="cpu"), encoder, chosen.exam, EXAM_SEED)
    _say(f"attribute-true captions on {chosen.exam} unseen scenes: {share:.3f}")
    return 0 if share >= chosen.goal else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the model")
    parser.add_argument("--encoder", default="nano", help="nano or an encoder's folder")
    parser.add_argument("--recipe", default="nano-scratch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--scenes", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exam", type=int, default=500, help="unseen scenes to judge it by")
    parser.add_argument("--goal", type=float, default=0.95)
    return parser


def _pixels(part: Sequence[Scene], encoder: Encoder, seed: str) -> Tensor:
    draw = random.Random(seed)  # noqa: S311 - pictures, not secrets
    drawings = [
        scenes.draw(scene, size=draw.choice(SIZES_PX), seed=draw.randrange(2**32)) for scene in part
    ]
    return torch.stack([encoder.preprocess(drawing) for drawing in drawings])


def _report(progress: Progress) -> None:
    if progress.val_loss is not None:
        _say(
            f"step {progress.step}/{progress.steps}: loss {progress.train_loss:.3f}, held out "
            f"{progress.val_loss:.3f}, {progress.examples_per_second:.0f} examples/s"
        )


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
