"""A process that trains a published recipe at toy width until it is done or killed.

`python training_victim.py RECIPE FOLDER`: the result goes to FOLDER/result.json, weights beside it.
"""

import json
import sys
from pathlib import Path

from test_training import pictures
from tiny_models import DIM

from captioner.beginnings import begin
from captioner.checkpoints import LocalCheckpoints
from captioner.configs import EncoderSpec
from captioner.devices import use_threads
from captioner.examples import write_examples
from captioner.recipes import find_recipe
from captioner.training import train

STEPS = 40
SETTINGS = {
    "language": "nano",
    "learning_rate": 1e-3,
    "batch_size": 8,
    "min_steps": STEPS,
    "max_steps": STEPS,
    "validate_every": 4,
    "val_fraction": 0.2,
    "patience": 0,
}


def main(name: str, folder: Path) -> None:
    use_threads(1)
    recipe = find_recipe(name).changed(SETTINGS)
    if recipe.train_tensors:
        recipe = recipe.changed({"train_tensors": 3})
    model = begin(recipe, EncoderSpec(name="tiny", dim=DIM), device="cpu")
    examples = write_examples(
        folder / "examples", pictures(60), model.language.tokens, max_tokens=20
    )
    result = train(model, examples, recipe, checkpoints=LocalCheckpoints(folder / "state"))
    model.save(folder / "model")
    curve = {"curve": result.curve, "val_loss": result.val_loss}
    (folder / "result.json").write_text(json.dumps(curve))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
