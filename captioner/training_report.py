"""What a training says of itself, on the way and at its end."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol


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


class Log(Protocol):
    """Whatever is told of a training's progress: a bar, a tracker's run, a list's append."""

    def __call__(self, progress: Progress, /) -> object:
        """Take one report; what is returned does not matter."""


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
    precision: str
    """What was computed in; weights were in float32."""
    train_pictures: int
    val_pictures: int
    curve: tuple[tuple[int, float, float | None], ...]
    """(step, train loss, held-out loss) at every validation."""
    seconds: float
    """Of this process; a resumed training counts from its resumption."""

    def to_json(self) -> dict[str, Any]:
        """For training.json."""
        return asdict(self)
