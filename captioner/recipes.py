"""How models are trained, by name: every setting with a word on when to change it; no torch."""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from captioner.errors import ModelError


def _at_least(name: str, value: float, least: int) -> None:
    if value < least:
        raise ModelError(f"{name} must be at least {least}, got {value}.")


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
    """Preset or folder whose weights training continues; empty trains a fresh model."""
    fresh: FreshModel = FreshModel()
    """The shape of the model when `start` is empty."""
    train_language: bool = True
    """Whether the language model learns too; if not, it stays frozen and without dropout."""
    fit_standardisation: bool = True
    """Whether the embeddings' mean and deviation are taken from these examples."""
    epochs: int = 10
    """Visits to each picture; a visit sees one of its captions, drawn anew."""
    min_steps: int = 600
    """Steps at least, however few the pictures are."""
    max_steps: int = 0
    """Steps at most, however many the pictures are; 0 sets no limit."""
    batch_size: int = 64
    """Pictures in a step."""
    learning_rate: float = 1e-3
    """The highest rate, reached after warm-up. Lower it if the loss jumps."""
    warmup_steps: int = 40
    """Steps in which the rate rises from 0; then it falls linearly to 0 at the last step."""
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
    keep: str = "last"
    """Weights to end with: `last`, or `best` on the held-out pictures. `best` stops a model from
    learning a small collection by heart; `last` lets it."""
    precision: str = "float32"
    """Precision of the computation; `bfloat16` is faster on cards made for it."""
    seed: int = 0
    """Decides the split, the order, the drawn captions and fresh weights."""

    def __post_init__(self) -> None:
        for name in ("epochs", "min_steps", "batch_size", "validate_every", "max_caption_tokens"):
            _at_least(name, getattr(self, name), 1)
        for name in ("max_steps", "warmup_steps", "weight_decay", "seed"):
            _at_least(name, getattr(self, name), 0)
        if self.learning_rate <= 0 or self.clip_norm <= 0:
            raise ModelError("learning_rate and clip_norm must be above 0.")
        if not 0 <= self.val_fraction < 1:
            raise ModelError(f"val_fraction must be from 0 to below 1, got {self.val_fraction}.")
        if self.keep not in ("last", "best"):
            raise ModelError(f"keep must be last or best, got {self.keep!r}.")
        if self.keep == "best" and self.val_fraction == 0:
            raise ModelError("keep='best' needs held-out pictures: raise val_fraction.")
        if self.precision not in ("float32", "bfloat16"):
            raise ModelError(f"precision must be float32 or bfloat16, got {self.precision!r}.")

    def steps(self, pictures: int) -> int:
        """Steps in all for so many training pictures."""
        batch = min(self.batch_size, max(1, pictures))
        wanted = max(self.min_steps, -(-self.epochs * pictures // batch))
        return min(wanted, self.max_steps) if self.max_steps else wanted

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0 to steps-1: linear warm-up, then linear decay to 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        left = (steps - step) / max(1, steps - self.warmup_steps)
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


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="nano",
            about="go on from the packaged nano captioner: learns a small collection in a minute",
            start="nano",
            fit_standardisation=False,
        ),
        Recipe(
            name="nano-scratch",
            about="a fresh mapper and a fresh small GPT-2, for any encoder",
            learning_rate=2e-3,
            warmup_steps=100,
            epochs=30,
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`; raises ModelError naming what comes near."""
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(name, RECIPES, n=2, cutoff=0.4)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ModelError(f"There is no recipe {name!r}; there are {', '.join(RECIPES)}.{meant}")


def recipe_from_json(settings: Mapping[str, Any]) -> Recipe:
    """The recipe that `to_json` described; raises ModelError if a setting is not known or odd."""
    values = dict(settings)
    try:
        return Recipe(**{**values, "fresh": FreshModel(**values.get("fresh", {}))})
    except TypeError as error:
        raise ModelError(f"The recipe's settings are not valid: {error}.") from error
