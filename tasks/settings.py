"""Turns what a user asked for into settings that are kept: the join of captioner and storage.

A request is made without torch, so that a finished root is told from files alone; resolving one
may load weights, so it is done in a lane, once.
"""

import logging
from dataclasses import asdict, replace
from typing import Any

from captioner.configs import EncoderSpec, Form
from captioner.decoding import Decoding, changed_decoding
from captioner.devices import Numerics, resolve_numerics
from captioner.encoders import encoder_digest, load_encoder, normalizes, spec_of
from captioner.errors import ModelError
from captioner.presets import PRESETS, model_digest, read_model_config
from captioner.recipes import find_recipe
from storage.captions import run_settings
from storage.embeddings import embedding_settings
from storage.fingerprint import fingerprint
from storage.layout import Root, plain_name
from storage.models import find_trained, model_folder, model_settings
from storage.reading import embedding_source, is_stored
from storage.schema import SCHEMA_VERSION
from storage.settled import Settled
from tasks.assignments import assignments
from tasks.options import CaptionOptions, ComputeOptions, EmbedOptions, TrainOptions

_log = logging.getLogger(__name__)
EMBED_VERSION = 1
"""Raised when the same settings would give other embeddings."""
TRAIN_VERSION = 1
"""Raised when the same settings would give another model."""
CAPTION_VERSION = 1
"""Raised when the same settings would give other captions."""


def embedding_for(root: Root, options: CaptionOptions) -> EmbedOptions:
    """The embeddings that a model reads, computed as its captions are."""
    spec = model_encoder(root, options.model)
    return EmbedOptions(
        encoder=options.encoder or spec.name,
        feature=spec.feature,
        normalized=spec.normalized,
        compute=options.compute,
    )


def caption_sources(root: Root, options: CaptionOptions, settled: Settled) -> tuple[str, str]:
    """What a lane loads the model and its scorer from; no scorer is an empty string."""
    scorer = str(settled.resolved["scorer"])
    return locate_model(root, options.model), (options.encoder or scorer) if scorer else ""


def embed_request(options: EmbedOptions) -> dict[str, Any]:
    """What decides the embeddings, as asked."""
    own = normalizes(options.encoder)
    return {
        "stage": "embed",
        "encoder": encoder_digest(options.encoder, offline=options.compute.offline),
        "feature": options.feature,
        "normalized": own if options.normalized is None else options.normalized,
        "value": options.value,
        "device": options.compute.device,
        "dtype": options.compute.dtype,
        "batch_size": options.compute.batch_size,
        "threads": options.compute.threads,
        "versions": [SCHEMA_VERSION, EMBED_VERSION],
    }


def find_embeddings(root: Root, options: EmbedOptions) -> Settled | None:
    """The settings that `options` came to before under this root."""
    return embedding_settings(root).find(embed_request(options))


def settle_embeddings(root: Root, options: EmbedOptions, lanes: int) -> Settled:
    """The settings for `options`, resolved for this machine if they are new."""
    request = embed_request(options)

    def resolve() -> dict[str, Any]:
        compute = options.compute
        form = Form(options.feature, options.normalized)
        encoder = load_encoder(options.encoder, form, device="cpu", offline=compute.offline)
        numerics = _numerics(compute, lanes)
        spec = asdict(spec_of(encoder))
        return {
            "stage": "embed",
            "encoder": spec.pop("name"),
            "weights": request["encoder"],
            **spec,
            "value": options.value,
            "numerics": asdict(numerics),
            "versions": request["versions"],
        }

    return embedding_settings(root).settle(request, resolve, title="encoder")


def train_request(root: Root, options: TrainOptions, space: Settled) -> dict[str, Any]:
    """What decides a trained model, as asked: recipe, examples, first weights."""
    recipe = find_recipe(options.recipe).changed(_changes(options))
    return {
        "stage": "train",
        "recipe": recipe.to_json(),
        "start": model_digest(recipe.start) if recipe.start else "",
        "examples": fingerprint({"examples": embedding_source(root, space).hashes()}),
        "embeddings": space.fingerprint,
        "device": options.compute.device,
        "threads": options.compute.threads,
        "versions": [SCHEMA_VERSION, TRAIN_VERSION],
    }


def settle_training(root: Root, options: TrainOptions, space: Settled, lanes: int) -> Settled:
    """The settings of the model that `options` would train; its name is the version."""
    request = train_request(root, options, space)
    name = plain_name(options.out, "model")
    resolved = space.resolved
    encoder = {"name": resolved["encoder"]}
    encoder |= {part: resolved[part] for part in ("dim", "feature", "normalized")}

    def resolve() -> dict[str, Any]:
        numerics = _numerics(replace(options.compute, dtype="float32"), lanes)
        return {
            **request,
            "encoder": encoder,
            "space": space.name,
            "numerics": asdict(numerics),
        }

    settings = model_settings(root, name)
    return settings.settle(request, resolve, title="stage", name=fingerprint(request)[:8])


def _numerics(compute: ComputeOptions, lanes: int) -> Numerics:
    numerics = resolve_numerics(compute.device, compute.dtype, compute.batch_size, lanes)
    return replace(numerics, threads=compute.threads) if compute.threads else numerics


def _changes(options: TrainOptions) -> dict[str, Any]:
    changes: dict[str, Any] = {"seed": options.seed}
    if options.steps is not None:
        changes |= {"min_steps": options.steps, "max_steps": options.steps}
    return changes


def locate_model(root: Root, model: str) -> str:
    """What the captioner loads `model` from: a preset, a folder, or a model of this root."""
    if model not in PRESETS and (trained := find_trained(root, model)):
        return str(model_folder(root, trained))
    return model


def caption_request(root: Root, options: CaptionOptions, space: Settled) -> dict[str, Any]:
    """What decides the captions, as asked."""
    scale = {"embedding_scale": options.embedding_scale} if options.embedding_scale else {}
    return {
        **scale,
        "stage": "caption",
        "model": model_digest(locate_model(root, options.model)),
        "embeddings": space.fingerprint,
        "decoding": decoding_for(root, options).to_json(),
        "score": options.score,
        "device": options.compute.device,
        "dtype": options.compute.dtype,
        "batch_size": options.compute.batch_size,
        "threads": options.compute.threads,
        "versions": [SCHEMA_VERSION, CAPTION_VERSION],
    }


def decoding_for(root: Root, options: CaptionOptions) -> Decoding:
    """How the model's captions are written, with what `options` change; no torch."""
    chosen = options.decode
    settings = assignments(chosen.settings)
    given = {"n": chosen.samples, "seed": chosen.seed, "max_tokens": chosen.max_tokens}
    settings |= {name: value for name, value in given.items() if value is not None}
    default = read_model_config(locate_model(root, options.model)).decoding
    drawn = chosen.samples is not None and default.candidates == 1
    name = chosen.name or ("top-p" if drawn else "")
    return changed_decoding(default, name, settings)


def find_run(root: Root, options: CaptionOptions, space: Settled) -> Settled | None:
    """The run that `options` began before under this root."""
    return run_settings(root).find(caption_request(root, options, space), options.run)


def settle_run(root: Root, options: CaptionOptions, space: Settled, lanes: int) -> Settled:
    """The run for `options`, resolved for this machine if it is new."""
    request = caption_request(root, options, space)
    config = read_model_config(locate_model(root, options.model))
    read: dict[str, Any] = {"space": space.name, "fingerprint": space.fingerprint}
    if options.embedding_scale:
        read |= {"scale": options.embedding_scale}
    if not is_stored(space):
        check_space(config.encoder, space)

    def resolve() -> dict[str, Any]:
        compute = options.compute
        numerics = _numerics(compute, lanes)
        return {
            "stage": "caption",
            "model": _label(root, options.model),
            "weights": request["model"],
            "embeddings": read,
            "decoding": request["decoding"],
            "scorer": _scorer(space, options),
            "numerics": asdict(numerics),
            "versions": request["versions"],
        }

    return run_settings(root).settle(request, resolve, title="model", name=options.run)


def model_encoder(root: Root, model: str) -> EncoderSpec:
    """Which embeddings `model` reads, without torch."""
    return read_model_config(locate_model(root, model)).encoder


def check_space(wanted: EncoderSpec, space: Settled) -> None:
    """Raise ModelError, naming what differs, unless the embeddings are those a model reads."""
    given = {"name": space.resolved["encoder"], **space.resolved}
    for name, value in asdict(wanted).items():
        if given[name] != value and (wanted.name or name != "name"):
            raise ModelError(
                f"The model reads embeddings with {name} {value!r}, but {space.name!r} has "
                f"{given[name]!r}: embed with --encoder {wanted.name}."
            )


def space_form(space: Settled) -> Form:
    """In which form the embeddings of `space` are."""
    return Form(str(space.resolved["feature"]), bool(space.resolved["normalized"]))


def _label(root: Root, model: str) -> str:
    if model in PRESETS:
        return model
    trained = find_trained(root, model)
    return str(trained) if trained else model.rstrip("/").rsplit("/", 1)[-1]


def _scorer(space: Settled, options: CaptionOptions) -> str:
    """Name of the encoder whose text tower scores, empty for none."""
    if options.score is False:
        return ""
    name = str(space.resolved["encoder"])
    try:
        form, offline = space_form(space), options.compute.offline
        load_encoder(options.encoder or name, form, device="cpu", offline=offline)
    except ModelError as error:
        if options.score:
            raise
        _log.warning("clip_sim stays null: %s", error)
        return ""
    return name
