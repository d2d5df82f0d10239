"""The settings of a training: everything that decides the model it comes to."""

from dataclasses import asdict, replace
from typing import Any

from captioner.architectures import find_architecture
from captioner.language_files import language_digest
from captioner.precision import training_dtype
from captioner.presets import model_digest
from captioner.recipe import Recipe
from captioner.recipes import find_recipe
from storage.errors import ConfigurationError
from storage.fingerprint import fingerprint
from storage.layout import Root, plain_name
from storage.models import model_settings
from storage.reading import embedding_source
from storage.schema import SCHEMA_VERSION
from storage.settled import Settled
from tasks.assignments import assignments
from tasks.options import EmbedOptions, TrainOptions
from tasks.settings.common import numerics_for

TRAIN_VERSION = 2
"""Raised when the same settings would give another model."""
_APART = ("name", "about", "seed", "language", "start", "architecture", "fresh")
"""Settings of a recipe that have an option of their own, or make it another recipe."""


def train_request(root: Root, options: TrainOptions, space: Settled) -> dict[str, Any]:
    """What decides a trained model, as asked: recipe, examples, first weights."""
    recipe = chosen_recipe(options)
    return {
        "stage": "train",
        "recipe": recipe.to_json(),
        "start": _start_digest(recipe),
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
        wanted = request["recipe"]["precision"]
        dtype = training_dtype(options.compute.device) if wanted == "auto" else wanted
        numerics = numerics_for(replace(options.compute, dtype=dtype), lanes)
        return {
            **request,
            "encoder": encoder,
            "space": space.name,
            "numerics": asdict(numerics),
            "offline": options.compute.offline,
        }

    settings = model_settings(root, name)
    return settings.settle(request, resolve, title="stage", name=model_version(request))


def model_version(request: dict[str, Any]) -> str:
    """The 8 digits that tell the model of this request from others of its name."""
    return fingerprint(request)[:8]


def chosen_recipe(options: TrainOptions) -> Recipe:
    """The recipe with what `options` change; raises ModelError or ConfigurationError."""
    settings = assignments(options.settings)
    if apart := sorted(set(settings) & set(_APART)):
        raise ConfigurationError(f"--set cannot change {apart[0]!r} of a recipe")
    changes: dict[str, Any] = {"seed": options.seed, **settings}
    if options.compute.dtype != "auto":
        if "precision" in settings:
            raise ConfigurationError("--dtype and --set precision say the same: give one of them")
        changes["precision"] = options.compute.dtype
    if options.language:
        changes["language"] = options.language
    if options.steps is not None:
        changes |= {"min_steps": options.steps, "max_steps": options.steps}
    recipe = find_recipe(options.recipe, faithful=options.faithful)
    if options.language and not recipe.architecture:
        raise ConfigurationError(
            f"the recipe {recipe.name!r} brings its own language model: leave --lm out"
        )
    return recipe.changed(changes)


def learnt_embeddings(
    options: TrainOptions, feature: str = "", normalized: bool | None = None
) -> EmbedOptions:
    """The embeddings that a training learns from: the recipe's, as far as nothing else is said."""
    recipe = chosen_recipe(options)
    if not recipe.architecture:
        return EmbedOptions(
            encoder=options.encoder or "nano",
            feature=feature or "projected",
            normalized=normalized,
        )
    design = find_architecture(recipe.architecture)
    if normalized is None and not options.encoder:
        normalized = design.normalized
    return EmbedOptions(
        encoder=options.encoder or design.encoder,
        feature=feature or design.feature,
        normalized=normalized,
    )


def _start_digest(recipe: Recipe) -> str:
    """The weights a training begins with, as far as they are files here."""
    if recipe.architecture:
        name = recipe.language or find_architecture(recipe.architecture).language
        return language_digest(name)
    return model_digest(recipe.start) if recipe.start else ""
