"""One training, step by step: exact to repeat, and exact to resume from what it saved.

Shapes:  B batch   T caption tokens
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from captioner.activations import fuse_activations, restore_activations
from captioner.ahead import made_ahead
from captioner.checkpoints import Checkpoints, pack, unpack
from captioner.errors import ModelError
from captioner.examples import Batch, ExampleFile
from captioner.losses import LOSSES
from captioner.mappers import EncoderMapper, Standardise
from captioner.model import CaptionModel
from captioner.optimising import build_optimiser, optimiser_state, restore_state
from captioner.recipe import Recipe
from captioner.training_report import Progress, TrainingResult
from captioner.visits import Visits

_VALIDATION_ROWS = 2048  # more would cost more than they tell
_REPORT_EVERY = 10
_LOWER = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class TrainingRun:
    """What is fixed (split, order, optimiser) and what moves (step, curve, best weights)."""

    def __init__(self, model: CaptionModel, examples: ExampleFile, recipe: Recipe) -> None:
        self.model, self.examples, self.recipe = model, examples, recipe
        self.device = next(model.parameters()).device
        self.train_pictures, self.held_out = examples.split(recipe.val_fraction, recipe.seed)
        self.visits = Visits(self.train_pictures, examples, recipe)
        self.steps = recipe.steps(len(self.visits))
        self.step = 0
        self.curve: list[tuple[int, float, float | None]] = []
        self.loss_of = LOSSES[recipe.loss]
        _free(model, recipe)
        self.slow = fuse_activations(model.language)
        self.learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimiser = build_optimiser(list(self.learning.values()), recipe)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "float16")

    def resume(self, checkpoints: Checkpoints) -> None:
        """Take up the state that `checkpoints` hold; ModelError if it is of another training."""
        data = checkpoints.load("last")
        if data is None:
            if self.recipe.fit_standardisation and isinstance(self.model.standardise, Standardise):
                self.model.standardise.set_figures(*self.examples.figures(self.train_pictures))
            return
        tensors, facts = unpack(data)
        if facts["training"] != self.identity():
            raise ModelError(
                "The checkpoint is of another training (other recipe, examples or model); "
                "resume with what it began with, or begin anew."
            )
        self.load_weights(tensors)
        restore_state(self.optimiser, self.learning, tensors)
        self.scaler.load_state_dict(facts["scaler"])
        self.step = int(facts["step"])
        self.curve = [(int(at), train, val) for at, train, val in facts["curve"]]

    def go(self, checkpoints: Checkpoints) -> Iterator[Progress]:
        """Train to the end, saving at every validation and reporting more often than that."""
        self.across_batch(self.recipe.loss == "clipxgpt")
        losses: list[Tensor] = []
        since = time.perf_counter()
        with closing(self.updates()) as updates:
            for loss in updates:
                losses.append(loss)
                due = self.step % self.recipe.validate_every == 0 or self.step == self.steps
                if not due and self.step % _REPORT_EVERY:
                    continue
                train_loss = torch.stack(losses).mean().item()
                examples = len(losses) * self.visits.batch_size * self.recipe.accumulate
                pace = examples / (time.perf_counter() - since)
                val_loss = self.validate() if due else None
                if due:
                    self.curve.append((self.step, train_loss, val_loss))
                    self.save(checkpoints)
                    losses, since = [], time.perf_counter()
                rate = self.recipe.rate(self.step - 1, self.steps)
                yield Progress(self.step, self.steps, train_loss, val_loss, rate, pace)

    def updates(self) -> Generator[Tensor, None, None]:
        """The mean loss of each step still to do, as it is done; batches are read in a thread."""
        with closing(made_ahead(self.read, range(self.step, self.steps))) as coming:
            while not self.exhausted() and (batches := next(coming, None)) is not None:
                loss = self.one_step(batches)
                self.step += 1
                yield loss

    def read(self, step: int) -> list[Batch]:
        """The batches of a step."""
        first = step * self.recipe.accumulate
        numbers = range(first, first + self.recipe.accumulate)
        batches = [self.examples.batch(self.visits.rows(number)) for number in numbers]
        return [batch.pinned() for batch in batches] if self.device.type == "cuda" else batches

    def one_step(self, batches: list[Batch]) -> Tensor:
        """One update; dropout and order depend on seed and step alone. Returns the mean loss."""
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        self.model.train()
        self.model.language.train(self.recipe.train_language)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate(self.step, self.steps)
        tokens = [int(batch.lengths.sum()) + len(batch.lengths) for batch in batches]
        self.optimiser.zero_grad(set_to_none=True)
        mean = torch.zeros((), device=self.device)
        for batch, count in zip(batches, tokens, strict=True):
            mean += self.add_gradients(batch, count / sum(tokens))
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.learning.values(), self.recipe.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return mean

    def add_gradients(self, batch: Batch, share: float) -> Tensor:
        """Add `share` of the batch's gradients to what is there; returns as much of its loss."""
        total, count = self.loss(batch)
        part = total / count.clamp_min(1) * share  # some losses count no token of some batches
        self.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
        return part.detach()

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The summed loss of a batch and how many tokens it is summed over."""
        lower = _LOWER.get(self.recipe.precision)
        with torch.autocast(self.device.type, dtype=lower, enabled=lower is not None):
            return self.loss_of(self.model, batch)

    @torch.no_grad()
    def validate(self) -> float | None:
        """Held-out loss over all captions of the held-out pictures, in a fixed order.

        None where nothing is held out, or no token of it counts.
        """
        rows = [(at, k) for at in self.held_out for k in range(self.examples.captions_of(at))]
        if not rows:
            return None
        rows = rows[:_VALIDATION_ROWS]
        self.model.eval()
        size = self.recipe.batch_size
        parts = [rows[at : at + size] for at in range(0, len(rows), size)]
        sums = [self.loss(self.examples.batch(part)) for part in parts]
        count = sum(n.item() for _, n in sums)
        return float(sum(total.item() for total, _ in sums) / count) if count else None

    def exhausted(self) -> bool:
        """Whether the held-out loss has not become better for `patience` validations."""
        worse = sum(step > self.best_step() for step, _, _ in self.curve) if self.curve else 0
        return 0 < self.recipe.patience <= worse

    def save(self, checkpoints: Checkpoints) -> None:
        """Save all that going on needs, and the best weights if these are they."""
        facts = {
            "training": self.identity(),
            "step": self.step,
            "curve": self.curve,
            "scaler": self.scaler.state_dict(),
        }
        if self.best_step() == self.step:
            checkpoints.save("best", pack(self.weights(), facts))
        state = optimiser_state(self.optimiser, self.learning)
        checkpoints.save("last", pack(self.weights() | state, facts))

    def finish(self, checkpoints: Checkpoints) -> None:
        """Leave the model with the weights that are kept, ready for inference."""
        data = checkpoints.load("best") if self.recipe.keep == "best" else None
        if data is not None:
            self.load_weights(unpack(data)[0])
        self.across_batch(False)
        restore_activations(self.slow)
        self.model.eval().requires_grad_(requires_grad=False)

    def across_batch(self, yes: bool) -> None:
        """Let an encoder mapper's images attend to each other, as CLIPxGPT trained them."""
        if isinstance(self.model.mapper, EncoderMapper):
            self.model.mapper.across_batch = yes

    def best_step(self) -> int:
        """The step of the least held-out loss; the last where nothing is held out."""
        held_out = [(val, step) for step, _, val in self.curve if val is not None]
        return min(held_out)[1] if held_out else self.curve[-1][0]

    def weights(self) -> dict[str, Tensor]:
        """What training changes."""
        figures = {k: v for k, v in self.model.state_dict().items() if k.startswith("standardise.")}
        return {**self.learning, **figures}

    @torch.no_grad()
    def load_weights(self, tensors: dict[str, Tensor]) -> None:
        """Put saved weights in place."""
        for name, weight in self.weights().items():
            weight.copy_(tensors[name])

    def identity(self) -> dict[str, Any]:
        """What a checkpoint has to be of, to go on from."""
        shapes = {name: list(weight.shape) for name, weight in self.learning.items()}
        return {"recipe": self.recipe.to_json(), "examples": self.examples.digest, "shapes": shapes}

    def result(self, seconds: float) -> TrainingResult:
        """What it came to."""
        kept = self.best_step() if self.recipe.keep == "best" else self.curve[-1][0]
        val_loss = next(val for step, _, val in self.curve if step == kept)
        return TrainingResult(
            self.step,
            self.curve[-1][1],
            val_loss,
            kept,
            self.recipe.precision,
            len(self.train_pictures),
            len(self.held_out),
            tuple(self.curve),
            seconds,
        )


def _free(model: CaptionModel, recipe: Recipe) -> None:
    """Let the parameters learn that the recipe trains, and no others."""
    model.requires_grad_(requires_grad=True)
    model.language.requires_grad_(requires_grad=False)
    if not recipe.train_language:
        return
    free = model.language.ends(tensors=recipe.train_tensors, blocks=recipe.train_blocks)
    for name, parameter in model.language.network.named_parameters():
        parameter.requires_grad_(name in free)
