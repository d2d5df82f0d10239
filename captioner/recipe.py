"""How a model is trained: every setting with a word on when to change it; no torch."""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from captioner.errors import ModelError

_FROM_1 = (
    "epochs",
    "min_steps",
    "batch_size",
    "accumulate",
    "validate_every",
    "max_caption_tokens",
)
_FROM_0 = (
    "max_steps",
    "warmup_steps",
    "weight_decay",
    "seed",
    "prefix_tokens",
    "clip_length",
    "patience",
    "train_tensors",
    "train_blocks",
)
_CHOICES = {
    "keep": ("last", "best"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
    "loss": ("caption", "clipcap", "clipxgpt"),
}


def _at_least(name: str, value: float, least: int) -> None:
    if value < least:
        raise ModelError(f"{name} must be at least {least}, got {value}.")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ModelError(f"{name} must be {' or '.join(known)}, got {value!r}.")


def _part(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ModelError(f"{name} must be from 0 to below 1, got {value}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshModel:
    """The shape of a model that is trained from nothing, with the tokenizer of `nano`."""

    prefix_tokens: int = 4
    """Tokens that stand for the image (P). Raise it when captions leave out what is there."""
    hidden_dim: int = 512
    """Width of the mapper's hidden layer; 0 means P*D/2."""
    width: int = 128
    """Width of the language model (D), a multiple of 32."""
    layers: int = 3
    """Layers of the language model. More learn longer sentences and take more time."""
    positions: int = 256
    """The longest sequence, prefix included; a rare word takes a token for every few letters."""

    def __post_init__(self) -> None:
        for name in ("prefix_tokens", "width", "layers"):
            _at_least(name, getattr(self, name), 1)
        _at_least("positions", self.positions, self.prefix_tokens + 2)
        if self.width % 32:
            raise ModelError(f"width must be a multiple of 32, got {self.width}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides a training but the examples."""

    name: str
    """What the recipe is called."""
    about: str = ""
    """One line for a list of recipes."""
    start: str = ""
    """Preset or folder whose weights training continues; empty trains a new model."""
    architecture: str = ""
    """The named architecture that a new model has; empty for one that is `fresh` throughout."""
    language: str = ""
    """Language model in place of the architecture's: nano, a folder or an id of the hub."""
    prefix_tokens: int = 0
    """Prefix length (P) in place of the architecture's; 0 keeps that."""
    clip_length: int = 0
    """Image tokens (K) of a transformer mapper in place of the architecture's; 0 keeps that."""
    fresh: FreshModel = FreshModel()
    """The shape of the model when `start` and `architecture` are empty."""
    train_language: bool = True
    """Whether the language model learns too; if not, it stays frozen and without dropout."""
    train_tensors: int = 0
    """Of the language model only the first and the last so many parameter tensors learn; 0: all.
    GPT-2's first 14 are its embeddings and first block, its last 14 the last block and norm."""
    train_blocks: int = 0
    """Of the language model only the first and the last so many blocks learn, with the embeddings
    and the last norm; 0: all."""
    loss: str = "caption"
    """`caption` is right for every model; `clipcap` and `clipxgpt` are those projects' own, flaws
    included (`captioner.losses` says which)."""
    fit_standardisation: bool = True
    """Whether the embeddings' mean and deviation are taken from these examples."""
    epochs: int = 10
    """Visits to each picture; a visit sees one of its captions, drawn anew."""
    every_caption: bool = False
    """Whether a visit sees all captions of a picture, each as an example of its own."""
    min_steps: int = 600
    """Steps at least, however few the pictures are."""
    max_steps: int = 0
    """Steps at most, however many the pictures are; 0 sets no limit."""
    batch_size: int = 64
    """Examples computed together."""
    accumulate: int = 1
    """Batches whose gradients are added up before a step; for batches that memory cannot hold."""
    bucketed: bool = False
    """Whether captions of like length are batched together. That saves a little time beyond what
    the grouping inside a batch does, but such batches are less alike, and learn less well."""
    learning_rate: float = 1e-3
    """The highest rate, reached after warm-up. Lower it if the loss jumps."""
    warmup_steps: int = 40
    """Steps in which the rate rises from 0; then it falls linearly to 0 at the last step."""
    warmup_fraction: float = 0.0
    """Part of all steps in which it rises, instead of `warmup_steps`; 0 leaves it at those."""
    weight_decay: float = 0.01
    """AdamW's decay of matrices; biases and norms have none."""
    clip_norm: float = 1.0
    """Gradients longer than this are shortened to it."""
    max_caption_tokens: int = 200
    """Longer captions are cut here."""
    val_fraction: float = 0.1
    """Part of the pictures that is held out; 0 holds out none."""
    validate_every: int = 100
    """Steps between validations, each of which is a checkpoint too."""
    patience: int = 0
    """Stop after so many validations without a better one; 0 goes on to the end."""
    keep: str = "last"
    """Weights to end with: `last`, or `best` on the held-out pictures. `best` stops a model from
    learning a small collection by heart; `last` lets it."""
    precision: str = "auto"
    """Precision of the computation: `float32`, `bfloat16`, or `float16` (its gradients scaled).
    `auto` is what the hardware is made for, and float32 for a model narrower than 256. Weights
    stay in float32."""
    seed: int = 0
    """Decides the split, the order, the drawn captions and fresh weights."""

    def __post_init__(self) -> None:
        for name in _FROM_1:
            _at_least(name, getattr(self, name), 1)
        for name in _FROM_0:
            _at_least(name, getattr(self, name), 0)
        for name, known in _CHOICES.items():
            _one_of(name, getattr(self, name), known)
        if self.learning_rate <= 0 or self.clip_norm <= 0:
            raise ModelError("learning_rate and clip_norm must be above 0.")
        for name in ("val_fraction", "warmup_fraction"):
            _part(name, getattr(self, name))
        if (self.keep == "best" or self.patience) and self.val_fraction == 0:
            raise ModelError("keep='best' and patience need held-out pictures: raise val_fraction.")
        if self.start and self.architecture:
            raise ModelError(f"A recipe continues {self.start!r} or begins anew, not both.")

    def steps(self, visits: int) -> int:
        """Steps in all where an epoch has so many visits."""
        batch = min(self.batch_size, max(1, visits)) * self.accumulate
        wanted = max(self.min_steps, -(-self.epochs * visits // batch))
        return min(wanted, self.max_steps) if self.max_steps else wanted

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0 to steps-1: linear warm-up, then linear decay to 0."""
        rising = round(self.warmup_fraction * steps) or self.warmup_steps
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        left = (steps - step) / max(1, steps - rising)
        return self.learning_rate * min(1.0, left)

    def to_json(self) -> dict[str, Any]:
        """Everything that decides the result, for fingerprints and checkpoints."""
        return {key: value for key, value in asdict(self).items() if key != "about"}

    def changed(self, settings: Mapping[str, Any]) -> "Recipe":
        """This recipe with some settings replaced; raises ModelError for one that is not known."""
        known = {field.name for field in fields(self)}
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                meant = f" Did you mean {near[0]}?" if near else ""
                raise ModelError(f"A recipe has no setting {name!r}.{meant}")
        return replace(self, **settings)


def recipe_from_json(settings: Mapping[str, Any]) -> Recipe:
    """The recipe that `to_json` described; raises ModelError if a setting is not known or odd."""
    values = dict(settings)
    try:
        return Recipe(**{**values, "fresh": FreshModel(**values.get("fresh", {}))})
    except TypeError as error:
        raise ModelError(f"The recipe's settings are not valid: {error}.") from error
