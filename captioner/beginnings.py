"""The model a training begins with: a packaged one to continue, or a fresh one."""

from dataclasses import replace

import torch

from captioner.configs import EncoderSpec, MapperConfig, ModelConfig
from captioner.decoding import Greedy
from captioner.devices import resolve_device
from captioner.encoders import NANO_ENCODER
from captioner.errors import ModelError
from captioner.folder_encoder import END
from captioner.language import fresh_gpt2
from captioner.model import CaptionModel, check_match, load_model
from captioner.recipes import Recipe
from captioner.tokens import read_tokenizer


def begin(recipe: Recipe, encoder: EncoderSpec, *, device: str = "auto") -> CaptionModel:
    """The model that `recipe` trains on embeddings of `encoder`, in float32.

    A fresh one is a function of the recipe's seed. Raises ModelError if the recipe continues a
    model that reads other embeddings.
    """
    if not recipe.start:
        return _fresh(recipe, encoder, device)
    model = load_model(recipe.start, device=device, dtype="float32")
    try:
        check_match(model.encoder_spec, encoder)
    except ModelError as error:
        raise ModelError(
            f"The recipe {recipe.name!r} continues the model {recipe.start!r}. {error} "
            "Or train with the recipe nano-scratch."
        ) from error
    return model


def _fresh(recipe: Recipe, encoder: EncoderSpec, device: str) -> CaptionModel:
    shape = recipe.fresh
    tokenizer = read_tokenizer(NANO_ENCODER / "tokenizer.json")
    end = tokenizer.token_to_id(END)
    if end is None:
        raise ModelError(f"The tokenizer of nano has no token {END}.")
    config = ModelConfig(
        encoder=encoder,
        mapper=MapperConfig(
            image_dim=encoder.dim,
            token_dim=shape.width,
            prefix_tokens=shape.prefix_tokens,
            hidden_dim=shape.hidden_dim,
        ),
        standardise=recipe.fit_standardisation,
        decoding=Greedy(max_tokens=shape.positions - shape.prefix_tokens, stop_ids=(end,)),
    )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        language = fresh_gpt2(
            tokenizer, width=shape.width, layers=shape.layers, positions=shape.positions
        )
        model = CaptionModel(config, language)
    return model.to(resolve_device(device))


def with_decoding(config: ModelConfig, longest: int, positions: int) -> ModelConfig:
    """`config` with room to decode captions as long as the longest learnt, and a little more."""
    room = positions - config.mapper.prefix_tokens
    tokens = min(room, longest + 9)  # the stop token and eight to spare
    return replace(config, decoding=Greedy(tokens, config.decoding.stop_ids))
