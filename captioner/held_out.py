"""How well a finished model foretells captions that its training held out."""

import torch

from captioner.errors import ModelError
from captioner.examples import ExampleFile
from captioner.losses import LOSSES
from captioner.model import CaptionModel
from captioner.recipe import Recipe

CAPTIONS = 2048
"""Of more held-out captions, so many tell enough."""


@torch.no_grad()
def held_out_loss(model: CaptionModel, examples: ExampleFile, recipe: Recipe) -> float:
    """Nats a caption on the pictures that `recipe` holds out of `examples`, in float32.

    By the caption and not by the token, so that models with different tokenizers compare. Raises
    ModelError if nothing is held out.
    """
    _, pictures = examples.split(recipe.val_fraction, recipe.seed)
    rows = [(at, k) for at in pictures for k in range(examples.captions_of(at))][:CAPTIONS]
    if not rows:
        raise ModelError("Nothing is held out to compare models by: raise val_fraction.")
    model.eval()
    size, loss_of = recipe.batch_size, LOSSES[recipe.loss]
    parts = (rows[at : at + size] for at in range(0, len(rows), size))
    return sum(loss_of(model, examples.batch(part))[0].item() for part in parts) / len(rows)
