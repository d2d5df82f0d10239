"""Training against a loop like ClipCap's, on the same captions, a step of each in turn.

`python -m benchmarks.training` times GPT-2's full size with random weights, `--losses` compares
what 500 steps come to on two layers. Captions have lengths like COCO's.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch.nn import functional

from benchmarks.training_data import (
    PREFIX,
    Data,
    as_peer,
    fresh_model,
    like_coco,
    peer_data,
    stored,
)
from benchmarks.training_peer import ClipCaption, PeerSettings, peer_training
from captioner.devices import usable_cores, use_threads
from captioner.model import CaptionModel
from captioner.precision import precise, training_dtype
from captioner.recipe import Recipe
from captioner.recipes import find_recipe
from captioner.training_run import TrainingRun

BATCH = 40
PAIRS, QUICK_PAIRS = 20, 4
SMALL = {"n_layer": 2, "n_embd": 256, "n_head": 4, "vocab_size": 4096}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    ours: float
    peer: float
    unit: str
    ratio: float
    spread: str
    note: str


def recipe(model: CaptionModel, **changes: Any) -> Recipe:
    """`clipcap` as `nightcap train` would run it here, without held-out pictures."""
    settings = {"val_fraction": 0.0, "keep": "last", "batch_size": BATCH, **changes}
    return precise(find_recipe("clipcap").changed(settings), model, training_dtype())


def timed_pairs(pairs: int, start: int = 0) -> list[tuple[float, float]]:
    """Seconds of one step of ours and of the peer's, in turn, after an untimed one of each.

    Ours begins at batch `start`, so that several runs make up one.
    """
    data = like_coco(4000, 50257, seed=0)
    model = fresh_model(0)
    peer = as_peer(model)
    steps = peer_training(peer, peer_data(data, 50256), PeerSettings(steps=10_000))
    with stored(data) as examples:
        run = TrainingRun(model, examples, recipe(model))
        run.step = start
        updates = run.updates()
        times = [
            (_seconds(lambda: next(updates).item()), _seconds(lambda: next(steps)))
            for _ in range(pairs + 1)
        ]
        updates.close()
    return times[1:]


def table_row(times: Sequence[tuple[float, float]]) -> Row:
    """Samples a second over all steps, and the middle half of the pairs' ratios."""
    ours, theirs = (BATCH * len(times) / sum(column) for column in zip(*times, strict=True))
    ratios = [peer / own for own, peer in times]
    low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Row(
        name="training, MLP + gpt2, against a ClipCap-style loop",
        ours=ours,
        peer=theirs,
        unit="samples/s",
        ratio=ours / theirs,
        spread=f"pairs {low:.1f} to {high:.1f}, median {median(ratios):.1f}",
        note=f"{len(times)} steps each, {torch.get_num_threads()} threads, {training_dtype()}",
    )


def training_rows(quick: bool) -> list[Row]:
    """The table's lines on training: few steps where `quick`."""
    return [table_row(timed_pairs(QUICK_PAIRS if quick else PAIRS))]


@dataclass(frozen=True, slots=True)
class Losses:
    """Where 500 steps of each end, in nats a token on held-out pictures, and what they took."""

    seed: int
    ours: float
    peer: float
    ours_seconds: float
    peer_seconds: float
    precision: str


def compared_losses(steps: int, seed: int) -> Losses:
    """Train both from the same weights on the same captions at the same rate; judge both alike."""
    data, unseen = like_coco(4000, 4096, seed), like_coco(400, 4096, seed + 1000)
    model = fresh_model(seed, **SMALL)
    peer = as_peer(model)
    warmup = min(50, steps // 10)
    settings = PeerSettings(steps=steps, rate=1e-3, warmup=warmup, seed=seed)
    theirs = peer_training(peer, peer_data(data, 4095), settings)
    peer_seconds = _seconds(lambda: list(theirs))
    chosen = recipe(
        model,
        learning_rate=1e-3,
        warmup_fraction=warmup / steps,
        min_steps=steps,
        max_steps=steps,
        seed=seed,
    )
    with stored(data) as examples:
        run = TrainingRun(model, examples, chosen)
        seconds = _seconds(lambda: list(run.updates()))
    return Losses(
        seed,
        held_out(as_peer(model), unseen),
        held_out(peer, unseen),
        seconds,
        peer_seconds,
        chosen.precision,
    )


@torch.no_grad()
def held_out(model: ClipCaption, data: Data) -> float:
    """Nats a token of captions and end tokens, in float32 and without dropout."""
    model.eval()
    token_NT, mask_NT, image_NC = peer_data(data, 4095).tensors
    total = 0.0
    for part in torch.arange(len(token_NT)).split(200):
        mask_BS = torch.cat([torch.ones(len(part), PREFIX), mask_NT[part]], dim=1)
        logits = model(token_NT[part], image_NC[part], mask_BS)[:, PREFIX - 1 : -1]
        total += functional.cross_entropy(
            logits.flatten(0, 1), token_NT[part].flatten(), ignore_index=0, reduction="sum"
        ).item()
    return total / float(mask_NT.sum())


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> int:
    """Print what was asked for; exit code 1 if the losses differ by more than one in a hundred."""
    chosen = _arguments()
    use_threads(chosen.threads)
    if chosen.losses:
        found = [compared_losses(chosen.steps, seed) for seed in chosen.seeds]
        for one in found:
            print(f"{one} {one.ours / one.peer - 1:+.2%}")
        return int(any(abs(one.ours / one.peer - 1) > 0.01 for one in found))
    times = timed_pairs(chosen.pairs, chosen.start)
    if chosen.times:
        with chosen.times.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(pair) + "\n" for pair in times)
        times = [json.loads(line) for line in chosen.times.read_text("utf-8").splitlines()]
    print(table_row(times))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--start", type=int, default=0, help="ours begins at this step")
    parser.add_argument("--times", type=Path, help="add the times to this file; report all in it")
    parser.add_argument("--losses", action="store_true")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
