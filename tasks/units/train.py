"""Train one model on a root's own embeddings and captions, going on from its last checkpoint."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from captioner.beginnings import begin
from captioner.configs import EncoderSpec
from captioner.curves import loss_curve
from captioner.devices import use_threads
from captioner.examples import write_examples
from captioner.model import CaptionModel
from captioner.precision import precise
from captioner.recipes import Recipe, recipe_from_json
from captioner.training import Progress, TrainingResult, train
from storage.commit import replace, scratch
from storage.embedded import EmbeddingSource
from storage.embeddings import embedding_values
from storage.errors import ConfigurationError
from storage.layout import open_root
from storage.models import ModelName, discard, model_settings, publish_model, versions
from storage.reading import embedding_source, read_space
from storage.receipts import Receipt
from storage.settled import Settled
from storage.urls import join, read_bytes
from tasks.progress import tick
from tasks.units.jobs import TrainJob


def train_model(job: TrainJob) -> Receipt:
    """The receipt of the model, trained now unless that is done."""
    root, model = open_root(job.root), ModelName(job.name, job.version)
    if receipt := versions(root, job.name).get(job.version):
        return receipt
    settled = model_settings(root, job.name).read(job.version)
    space = settled and read_space(root, settled.resolved["space"])
    if settled is None or space is None:
        raise ConfigurationError(f"model {model} has no settings, or its embeddings are gone")
    checkpoints = StoredCheckpoints(join(root.model(job.name, job.version), "checkpoints"))
    with scratch() as place:
        pictures = Pictures(embedding_source(root, space))
        trained, result = _train(settled, pictures, checkpoints, place)
        folder = place / "model"
        trained.save(folder, dtype="float32")
        facts = {
            "embedding_norm_mean": pictures.norm_mean,
            "language_revision": trained.language.revision,
        }
        _describe(folder, settled, result, facts)
        receipt = publish_model(root, model, settled.fingerprint, folder, _facts(result))
    discard(checkpoints.url)
    return receipt


@dataclass(frozen=True, slots=True)
class StoredCheckpoints:
    """A training's state beside the model it will become, so that any machine can go on."""

    url: str

    def save(self, name: str, data: bytes) -> None:
        """Replace the state called `name`."""
        replace(join(self.url, f"{name}.safetensors"), data)

    def load(self, name: str) -> bytes | None:
        """The state called `name`, None if there is none."""
        try:
            return read_bytes(join(self.url, f"{name}.safetensors"))
        except FileNotFoundError:
            return None


class Pictures:
    """Embedding and captions of every picture that has both, in order of shard."""

    def __init__(self, source: EmbeddingSource) -> None:
        self._source = source
        self._count, self._lengths = 0, 0.0

    @property
    def norm_mean(self) -> float:
        """The mean length of the embeddings given: what later ones may have to be scaled to."""
        return self._lengths / max(1, self._count)

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.float32], Sequence[str]]]:
        for shard in self._source.offered():
            for index, seen in self._source.open(shard.name):
                fine = np.asarray(seen["status"].to_numpy() == "ok")
                captions = index["captions"].to_pylist()
                image_NC = embedding_values(seen)
                for number in np.flatnonzero(fine):
                    if captions[number]:
                        self._count += 1
                        self._lengths += float(np.linalg.norm(image_NC[number].astype(np.float64)))
                        yield image_NC[number], captions[number]


def _train(
    settled: Settled, pictures: Pictures, checkpoints: StoredCheckpoints, place: Path
) -> tuple[CaptionModel, TrainingResult]:
    use_threads(settled.resolved["numerics"]["threads"])
    recipe: Recipe = recipe_from_json(settled.resolved["recipe"])
    encoder = EncoderSpec(**settled.resolved["encoder"])
    resolved = settled.resolved
    device, offline = resolved["numerics"]["device"], bool(resolved.get("offline"))
    model = begin(recipe, encoder, device=device, offline=offline)
    recipe = precise(recipe, model, settled.resolved["numerics"]["dtype"])
    examples = write_examples(
        place / "examples",
        pictures,
        model.language.tokens,
        max_tokens=recipe.max_caption_tokens,
    )

    def report(progress: Progress) -> None:
        facts = {
            "step": progress.step,
            "steps": progress.steps,
            "loss": progress.train_loss,
            "examples_a_second": progress.examples_per_second,
        }
        if progress.val_loss is not None:
            facts["held_out"] = progress.val_loss
        tick("train", 0, **facts)

    try:
        result = train(model, examples, recipe, checkpoints=checkpoints, report=report)
    finally:
        examples.close()
    return model, result


def _describe(folder: Path, settled: Settled, result: TrainingResult, more: dict[str, Any]) -> None:
    """What made the model: no clock, so that the same training gives the same files."""
    facts = {key: value for key, value in result.to_json().items() if key != "seconds"}
    training = {**settled.resolved, "result": facts | more}
    text = json.dumps(training, indent=1, sort_keys=True) + "\n"
    (folder / "training.json").write_text(text, encoding="utf-8")
    lines = [
        json.dumps({"step": step, "train_loss": loss, "val_loss": held_out})
        for step, loss, held_out in result.curve
    ]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (folder / "loss.png").write_bytes(loss_curve(result))


def _facts(result: TrainingResult) -> dict[str, float | int | None]:
    return {
        "examples": result.train_pictures,
        "held_out": result.val_pictures,
        "steps": result.steps,
        "train_loss": result.train_loss,
        "val_loss": result.val_loss,
    }
