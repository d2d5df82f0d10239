"""The training loop: AdamW on the caption's tokens, exact to repeat and to resume.

Shapes:  B batch   C embedding   P prefix tokens   D token embedding   T caption tokens
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from captioner.beginnings import with_decoding
from captioner.checkpoints import Checkpoints, pack, unpack
from captioner.errors import ModelError
from captioner.examples import Batch, ExampleFile, Visits
from captioner.mappers import Standardise
from captioner.model import CaptionModel
from captioner.optimising import build_optimiser, optimiser_state, restore_state
from captioner.recipes import Recipe

_VALIDATION_ROWS = 2048  # more would cost more than they tell
_REPORT_EVERY = 10


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is."""

    step: int
    """Steps done."""
    steps: int
    train_loss: float
    """Mean over the steps since the last validation, in nats a token."""
    val_loss: float | None
    """On the held-out pictures, in nats a token; None where it was not taken."""
    learning_rate: float
    examples_per_second: float


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training came to; the model itself was trained in place."""

    steps: int
    train_loss: float
    """Mean over the last steps, since the validation before the last, in nats a token."""
    val_loss: float | None
    """Of the weights that were kept, in nats a token."""
    kept_step: int
    """The step whose weights were kept."""
    train_pictures: int
    val_pictures: int
    curve: tuple[tuple[int, float, float | None], ...]
    """(step, train loss, held-out loss) at every validation."""
    seconds: float
    """Of this process; a resumed training counts from its resumption."""

    def to_json(self) -> dict[str, Any]:
        """For training.json."""
        return asdict(self)


def train(
    model: CaptionModel,
    examples: ExampleFile,
    recipe: Recipe,
    *,
    checkpoints: Checkpoints,
    report: Callable[[Progress], None] = lambda _: None,
) -> TrainingResult:
    """Train `model` in place, going on from `checkpoints` if they hold a state.

    On a CPU with the same number of threads the result is a function of model, examples and
    recipe, whether or not it was interrupted. Raises ModelError if the state is of another
    training.
    """
    run = _Run(model, examples, recipe)
    run.resume(checkpoints)
    began = time.perf_counter()
    with torch.random.fork_rng():
        for progress in run.go(checkpoints):
            report(progress)
    run.keep(checkpoints)
    model.eval().requires_grad_(requires_grad=False)
    model.config = with_decoding(model.config, examples.longest, model.language.positions)
    return run.result(time.perf_counter() - began)


def caption_loss(model: CaptionModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy (nats) of captions and their end tokens, and how many tokens those are.

    The network reads [prefix, caption]; the logits at the prefix's last position and at every
    caption token are held against caption and end token. What follows a caption is masked by
    its position, so no token id is special.
    """
    prefix_BPD = model.prefix(batch.images)
    token_BT, length_B = batch.tokens.to(prefix_BPD.device), batch.lengths.to(prefix_BPD.device)
    caption_BTD = model.language.embed(token_BT)
    inputs = torch.cat([prefix_BPD, caption_BTD.to(prefix_BPD.dtype)], dim=1)
    columns = token_BT.shape[1] + 1
    logits_BTV = model.language.logits(inputs, last=columns)
    target_BT = functional.pad(token_BT, (0, 1))
    target_BT[torch.arange(len(length_B)), length_B] = end_id(model)
    counted_BT = torch.arange(columns, device=length_B.device)[None] <= length_B[:, None]
    loss = functional.cross_entropy(
        logits_BTV[counted_BT].float(), target_BT[counted_BT], reduction="sum"
    )
    return loss, counted_BT.sum()


def end_id(model: CaptionModel) -> int:
    """The token that ends a caption; raises ModelError if the model has none."""
    if not model.decoding.stop_ids:
        raise ModelError("The model has no stop token to train with.")
    return model.decoding.stop_ids[0]


class _Run:
    """One training: what is fixed (split, order, optimiser) and what moves (step, curve, best)."""

    def __init__(self, model: CaptionModel, examples: ExampleFile, recipe: Recipe) -> None:
        self.model, self.examples, self.recipe = model, examples, recipe
        train_pictures, self.held_out = examples.split(recipe.val_fraction, recipe.seed)
        self.train_pictures = train_pictures
        self.visits = Visits(train_pictures, recipe.batch_size, recipe.seed)
        self.steps = recipe.steps(len(train_pictures))
        self.step = 0
        self.curve: list[tuple[int, float, float | None]] = []
        model.requires_grad_(requires_grad=True)
        model.language.requires_grad_(recipe.train_language)
        self.learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimiser = build_optimiser(list(self.learning.values()), recipe)

    def resume(self, checkpoints: Checkpoints) -> None:
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
        self.step = int(facts["step"])
        self.curve = [(int(at), train, val) for at, train, val in facts["curve"]]

    def go(self, checkpoints: Checkpoints) -> Iterator[Progress]:
        losses: list[float] = []
        since = time.perf_counter()
        while self.step < self.steps:
            losses.append(self.one_step())
            self.step += 1
            due = self.step % self.recipe.validate_every == 0 or self.step == self.steps
            if not due and self.step % _REPORT_EVERY:
                continue
            pace = len(losses) * self.visits.batch_size / (time.perf_counter() - since)
            train_loss, val_loss = sum(losses) / len(losses), self.validate() if due else None
            if due:
                self.curve.append((self.step, train_loss, val_loss))
                self.save(checkpoints)
                losses, since = [], time.perf_counter()
            rate = self.recipe.rate(self.step - 1, self.steps)
            yield Progress(self.step, self.steps, train_loss, val_loss, rate, pace)

    def one_step(self) -> float:
        """One update; dropout and order depend on seed and step alone."""
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        self.model.train()
        self.model.language.train(self.recipe.train_language)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate(self.step, self.steps)
        total, count = self.loss(self.examples.batch(self.visits.rows(self.step)))
        loss = total / count
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.learning.values(), self.recipe.clip_norm)
        self.optimiser.step()
        return loss.item()

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        device = next(self.model.parameters()).device.type
        lower = self.recipe.precision == "bfloat16"
        with torch.autocast(device, dtype=torch.bfloat16, enabled=lower):
            return caption_loss(self.model, batch)

    @torch.no_grad()
    def validate(self) -> float | None:
        """Held-out loss over all captions of the held-out pictures, in a fixed order."""
        rows = [(at, k) for at in self.held_out for k in range(self.examples.captions_of(at))]
        if not rows:
            return None
        rows = rows[:_VALIDATION_ROWS]
        self.model.eval()
        size = self.recipe.batch_size
        parts = [rows[at : at + size] for at in range(0, len(rows), size)]
        sums = [self.loss(self.examples.batch(part)) for part in parts]
        return float(sum(total.item() for total, _ in sums) / sum(n.item() for _, n in sums))

    def save(self, checkpoints: Checkpoints) -> None:
        facts = {"training": self.identity(), "step": self.step, "curve": self.curve}
        if self.best_step() == self.step:
            checkpoints.save("best", pack(self.weights(), facts))
        state = optimiser_state(self.optimiser, self.learning)
        checkpoints.save("last", pack(self.weights() | state, facts))

    def keep(self, checkpoints: Checkpoints) -> None:
        data = checkpoints.load("best") if self.recipe.keep == "best" else None
        if data is not None:
            self.load_weights(unpack(data)[0])

    def best_step(self) -> int:
        held_out = [(val, step) for step, _, val in self.curve if val is not None]
        return min(held_out)[1] if held_out else self.curve[-1][0]

    def weights(self) -> dict[str, Tensor]:
        figures = {k: v for k, v in self.model.state_dict().items() if k.startswith("standardise.")}
        return {**self.learning, **figures}

    @torch.no_grad()
    def load_weights(self, tensors: dict[str, Tensor]) -> None:
        for name, weight in self.weights().items():
            weight.copy_(tensors[name])

    def identity(self) -> dict[str, Any]:
        shapes = {name: list(weight.shape) for name, weight in self.learning.items()}
        return {"recipe": self.recipe.to_json(), "examples": self.examples.digest, "shapes": shapes}

    def result(self, seconds: float) -> TrainingResult:
        kept = self.best_step() if self.recipe.keep == "best" else self.curve[-1][0]
        val_loss = next(val for step, _, val in self.curve if step == kept)
        return TrainingResult(
            self.steps,
            self.curve[-1][1],
            val_loss,
            kept,
            len(self.train_pictures),
            len(self.held_out),
            tuple(self.curve),
            seconds,
        )
