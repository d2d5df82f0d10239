"""Every recipe at toy width: nano's encoder and language model, drawn scenes, unseen ones to judge.

`python -m benchmarks.recipes [RECIPE ...]` draws once, embeds projected and pooled, trains each
recipe with `TOY` in place of its own figures, and prints a table and the loss curves as JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from captioner import scenes
from captioner.architectures import find_architecture
from captioner.beginnings import begin
from captioner.checkpoints import MemoryCheckpoints
from captioner.configs import Form
from captioner.decoding import Greedy
from captioner.devices import use_threads
from captioner.encoders import load_encoder, spec_of
from captioner.examples import write_examples
from captioner.nano.train_captioner import EXAM_SEED, embed_scenes
from captioner.recipe import Recipe
from captioner.recipes import RECIPES, find_recipe
from captioner.training import Progress, train

TOY = {
    "language": "nano",
    "fit_standardisation": True,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "warmup_fraction": 0.1,
    "val_fraction": 0.02,
    "patience": 0,
    "max_caption_tokens": 60,
}
"""What a toy needs otherwise: a small model learns fast, and nano's embeddings are alike."""
SHORT = {"prefix_tokens": 10, "clip_length": 10}
"""For a prefix of 40: nano's frozen language model knows no positions so far behind it. 10 and 10
are what ClipCap's train.py takes unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Scenes:
    """Drawn scenes with captions, embedded in one form."""

    image_NC: torch.Tensor
    drawn: list[scenes.Scene]


def main() -> int:
    """Train and judge the recipes asked for."""
    chosen = _arguments()
    use_threads(chosen.threads)
    names = chosen.recipes or [name for name, one in RECIPES.items() if one.architecture]
    made: dict[str, tuple[Scenes, Scenes]] = {}
    rows = []
    for name in names:
        recipe = toy(find_recipe(name, faithful=chosen.faithful), chosen.steps)
        recipe = recipe.changed(dict(map(_setting, chosen.set or [])))
        feature = find_architecture(recipe.architecture).feature
        if feature not in made:
            made[feature] = (
                embedded(feature, chosen.scenes, seed=1),
                embedded(feature, chosen.exam, seed=EXAM_SEED),
            )
        rows.append({"recipe": name, **trial(recipe, feature, *made[feature])})
        sys.stdout.write(json.dumps(rows[-1]) + "\n")
        sys.stdout.flush()
    for row in rows:
        print(f"| {row['recipe']} | {row['attribute_true']:.3f} | {row['seconds']:.0f} |")
    return 0


def toy(recipe: Recipe, steps: int) -> Recipe:
    """The recipe with figures that fit a toy."""
    long = find_architecture(recipe.architecture).prefix_tokens > 10
    return recipe.changed(
        {
            **TOY,
            **(SHORT if long else {}),
            "min_steps": steps,
            "max_steps": steps,
            "validate_every": max(1, steps // 6),
        }
    )


def embedded(feature: str, count: int, seed: int) -> Scenes:
    """Scenes of one seed; those with the exam's are held out of all training."""
    encoder = load_encoder("nano", Form(feature))
    drawn = scenes.sample(count, seed, held_out=seed == EXAM_SEED)
    return Scenes(torch.stack(list(embed_scenes(drawn, encoder, seed))), drawn)


def trial(recipe: Recipe, feature: str, seen: Scenes, unseen: Scenes) -> dict[str, Any]:
    """Train once and judge greedy captions of scenes that no training has seen."""
    model = begin(recipe, spec_of(load_encoder("nano", Form(feature))))
    pairs = zip(
        (row.numpy() for row in seen.image_NC),
        (scenes.captions(scene, 5, at) for at, scene in enumerate(seen.drawn)),
        strict=True,
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        examples = write_examples(
            Path(scratch), pairs, model.language.tokens, max_tokens=recipe.max_caption_tokens
        )
        result = train(model, examples, recipe, checkpoints=MemoryCheckpoints(), report=_report)
    seconds = time.perf_counter() - began
    greedy = Greedy(model.decoding.max_tokens, model.decoding.stop_ids)
    captions = [
        caption
        for part in torch.split(unseen.image_NC, 100)
        for caption in model.candidates(part, greedy)
    ]
    judged = zip(captions, unseen.drawn, strict=True)
    right = sum(scenes.attribute_true(row[0].text, scene) for row, scene in judged)
    return {
        "attribute_true": right / len(captions),
        "seconds": seconds,
        "curve": result.curve,
        "sample": captions[0][0].text,
    }


def _setting(word: str) -> tuple[str, Any]:
    name, _, value = word.partition("=")
    return name, json.loads(value)


def _report(progress: Progress) -> None:
    if progress.val_loss is not None:
        sys.stderr.write(
            f"  step {progress.step}/{progress.steps}: loss {progress.train_loss:.3f}, held out "
            f"{progress.val_loss:.3f}, {progress.examples_per_second:.0f} examples/s\n"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--scenes", type=int, default=6000)
    parser.add_argument("--exam", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--faithful", action="store_true")
    parser.add_argument("--set", action="append", help="a setting of the recipe, NAME=JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
