"""Train a model on examples: what goes in, what is reported on the way, what comes out."""

import time

import torch

from captioner.beginnings import with_decoding
from captioner.checkpoints import Checkpoints
from captioner.examples import ExampleFile
from captioner.model import CaptionModel
from captioner.precision import precise, training_dtype
from captioner.recipe import Recipe
from captioner.training_report import Log, Progress, TrainingResult
from captioner.training_run import TrainingRun

__all__ = ["Log", "Progress", "TrainingResult", "train"]


def train(
    model: CaptionModel,
    examples: ExampleFile,
    recipe: Recipe,
    *,
    checkpoints: Checkpoints,
    report: Log = lambda _: None,
) -> TrainingResult:
    """Train `model` in place, going on from `checkpoints` if they hold a state.

    On a CPU with the same number of threads the result is a function of model, examples and
    recipe, whether or not it was interrupted. Raises ModelError if the state is of another
    training.
    """
    recipe = precise(recipe, model, training_dtype(next(model.parameters()).device.type))
    run = TrainingRun(model, examples, recipe)
    run.resume(checkpoints)
    began = time.perf_counter()
    with torch.random.fork_rng():
        for progress in run.go(checkpoints):
            report(progress)
    run.finish(checkpoints)
    model.config = with_decoding(model.config, examples.longest, model.language.positions)
    return run.result(time.perf_counter() - began)
