"""The named recipes: how nano and the published models are trained."""

import difflib
from dataclasses import replace

from captioner.errors import ModelError
from captioner.recipe import FreshModel, Recipe, recipe_from_json

__all__ = ["FAITHFUL", "RECIPES", "FreshModel", "Recipe", "find_recipe", "recipe_from_json"]

_CLIPCAP = Recipe(
    name="clipcap",
    about="ClipCap: an MLP before GPT-2, which learns too",
    architecture="clipcap-coco",
    fit_standardisation=False,
    epochs=10,
    every_caption=True,
    min_steps=1,
    batch_size=40,
    learning_rate=2e-5,
    warmup_fraction=0.1,
    max_caption_tokens=67,
    val_fraction=0.02,
    validate_every=1000,
    keep="best",
)
_CLIPXGPT = Recipe(
    name="clipxgpt-small",
    about="CLIPxGPT: encoder layers before GPT-2, whose first and last block learn",
    architecture="clipxgpt-small",
    fit_standardisation=False,
    train_tensors=14,
    epochs=150,
    every_caption=True,
    min_steps=1,
    batch_size=64,
    learning_rate=1e-4,
    warmup_fraction=0.33,
    clip_norm=1.3,
    max_caption_tokens=40,
    val_fraction=0.13,
    validate_every=500,
    patience=20,
    keep="best",
)

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
        _CLIPCAP,
        replace(
            _CLIPCAP,
            name="clipcap-transformer",
            about="ClipCap: an 8-layer Transformer before a frozen GPT-2",
            architecture="clipcap-transformer-coco",
            train_language=False,
        ),
        replace(
            _CLIPCAP,
            name="clipcap-conceptual",
            about="ClipCap's MLP as it was trained on Conceptual Captions",
            architecture="clipcap-conceptual",
            batch_size=128,
            max_caption_tokens=64,
        ),
        _CLIPXGPT,
        replace(
            _CLIPXGPT,
            name="clipxgpt-large",
            about="CLIPxGPT with ViT-L-14 and GPT-2 medium",
            architecture="clipxgpt-large",
            epochs=120,
            batch_size=32,
            warmup_fraction=0.3,
        ),
        replace(
            _CLIPXGPT,
            name="clipxgpt-giant",
            about="CLIPxGPT's fork with ViT-g-14 and GPT-2 xl",
            architecture="clipxgpt-giant",
            epochs=300,
            batch_size=16,
            warmup_fraction=0.3,
        ),
    )
}

_CLIPCAP_WAYS = {"loss": "clipcap", "warmup_fraction": 0.0, "weight_decay": 0.0}
_CLIPXGPT_WAYS = {"loss": "clipxgpt", "patience": 0}
FAITHFUL = {
    "clipcap": {**_CLIPCAP_WAYS, "warmup_steps": 5000, "keep": "last"},
    "clipcap-transformer": {**_CLIPCAP_WAYS, "warmup_steps": 5000, "keep": "last"},
    "clipcap-conceptual": {**_CLIPCAP_WAYS, "warmup_steps": 5000},
    "clipxgpt-small": {**_CLIPXGPT_WAYS, "learning_rate": 3e-3**2},
    "clipxgpt-large": {**_CLIPXGPT_WAYS, "learning_rate": 5e-3**2},
    "clipxgpt-giant": {**_CLIPXGPT_WAYS, "learning_rate": 5e-3**2},
}
"""What each original does otherwise: its loss, its schedule, its rate. CLIPxGPT multiplies its
schedule by the highest rate twice, so its rate is the square of the one in its settings."""


def find_recipe(name: str, *, faithful: bool = False) -> Recipe:
    """The recipe called `name`, or that of its original, flaws included.

    Raises ModelError naming what comes near.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=2, cutoff=0.4)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ModelError(f"There is no recipe {name!r}; there are {', '.join(RECIPES)}.{meant}")
    if not faithful:
        return RECIPES[name]
    if name not in FAITHFUL:
        raise ModelError(f"The recipe {name!r} has no original to be faithful to.")
    return RECIPES[name].changed(FAITHFUL[name])
