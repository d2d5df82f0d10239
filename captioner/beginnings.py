"""The model a training begins with: a packaged one to continue, or a fresh one."""

from dataclasses import replace

import torch

from captioner.architectures import Architecture, find_architecture
from captioner.configs import EncoderSpec, MapperConfig, ModelConfig, Opening, Wording
from captioner.decoding import Greedy, decoding_from_json
from captioner.devices import resolve_device
from captioner.encoders import NANO_ENCODER
from captioner.errors import ModelError
from captioner.folder_encoder import END
from captioner.language import fresh_gpt2
from captioner.mappers import EncoderMapper
from captioner.model import CaptionModel, check_match, load_model
from captioner.pretrained import Pretrained, load_pretrained
from captioner.recipes import Recipe
from captioner.tokens import read_tokenizer

CLIPCAP_STOP = "."


def begin(
    recipe: Recipe, encoder: EncoderSpec, *, device: str = "auto", offline: bool = False
) -> CaptionModel:
    """The model that `recipe` trains on embeddings of `encoder`, in float32.

    A new one is a function of the recipe's seed and, if it has one, its language model. Raises
    ModelError if the recipe continues a model that reads other embeddings.
    """
    if recipe.architecture:
        return _designed(recipe, encoder, offline=offline).to(resolve_device(device))
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


def _designed(recipe: Recipe, encoder: EncoderSpec, *, offline: bool) -> CaptionModel:
    """A new mapper of the recipe's architecture before a language model that exists."""
    design = find_architecture(recipe.architecture)
    design = replace(
        design,
        prefix_tokens=recipe.prefix_tokens or design.prefix_tokens,
        clip_length=recipe.clip_length or design.clip_length,
    )
    pretrained = load_pretrained(recipe.language or design.language, offline=offline)
    language = pretrained.language
    opening, wording, stop = _manners(recipe, design, pretrained)
    room = language.positions - design.prefix_tokens - (opening.bos_id is not None)
    decoding = design.decoding_settings((stop,), min(design.max_tokens, room))
    if recipe.loss == "clipcap":
        decoding = {**decoding, "mode": "clipcap"} if design.decoding == "beam" else decoding
    config = ModelConfig(
        encoder=encoder,
        mapper=MapperConfig(**design.mapper_settings(encoder.dim, language.token_dim)),
        standardise=recipe.fit_standardisation,
        decoding=decoding_from_json(decoding),
        opening=opening,
        wording=wording,
    )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = CaptionModel(config, language)
        if recipe.loss == "clipxgpt" and isinstance(model.mapper, EncoderMapper):
            model.mapper.begin_as_original()
    return model


def _manners(
    recipe: Recipe, design: Architecture, pretrained: Pretrained
) -> tuple[Opening, Wording, int]:
    """How captions begin, read and end: as the original's where the recipe has its loss."""
    if recipe.loss == "clipcap":
        stop = pretrained.language.tokens(CLIPCAP_STOP)
        if len(stop) != 1:
            raise ModelError(f"The tokenizer has no single token for {CLIPCAP_STOP!r}.")
        return Opening(), Wording(keep_stop=True), stop[0]
    begin_id = pretrained.begin_id
    if recipe.loss == "clipxgpt":
        opening = Opening(kind="clipxgpt", bos_id=begin_id)
        return opening, Wording(capital=True, drop_cut=True), pretrained.end_id
    opening = Opening(kind="bos", bos_id=begin_id) if design.opening == "bos" else Opening()
    return opening, Wording(), pretrained.end_id


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
    room = positions - config.mapper.prefix_tokens - (config.opening.bos_id is not None)
    tokens = min(room, longest + 9)  # the stop token and eight to spare
    settings = {**config.decoding.to_json(), "max_tokens": tokens}
    return replace(config, decoding=decoding_from_json(settings))
