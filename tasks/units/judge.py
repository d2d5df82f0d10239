"""Compare trained models on the captions that the newest of them was not shown."""

from collections.abc import Sequence

from captioner.examples import write_examples
from captioner.held_out import held_out_loss
from captioner.model import load_model
from captioner.recipes import recipe_from_json
from storage.commit import scratch
from storage.errors import ConfigurationError
from storage.layout import Root
from storage.models import ModelName, model_folder, model_settings
from storage.reading import embedding_source, read_space
from tasks.units.train import Pictures


def held_out_losses(root: Root, newest: ModelName, others: Sequence[ModelName]) -> list[float]:
    """Nats a caption of `newest` and of each of `others`, on what `newest` held out.

    A model that learnt those pictures in its own time has the advantage of it.
    """
    settled = model_settings(root, newest.name).read(newest.version)
    space = settled and read_space(root, settled.resolved["space"])
    if settled is None or space is None:
        raise ConfigurationError(f"model {newest} has no settings, or its embeddings are gone")
    recipe = recipe_from_json(settled.resolved["recipe"])
    device = settled.resolved["numerics"]["device"]
    losses = []
    for name in (newest, *others):
        model = load_model(model_folder(root, name), device=device, dtype="float32")
        with scratch() as place:
            examples = write_examples(
                place / "examples",
                Pictures(embedding_source(root, space)),
                model.language.tokens,
                max_tokens=recipe.max_caption_tokens,
            )
            try:
                losses.append(held_out_loss(model, examples, recipe))
            finally:
                examples.close()
    return losses
