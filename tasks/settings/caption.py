"""The settings of a run of captions: the model, its decoding, its scorer."""

import logging
from dataclasses import asdict
from typing import Any

from captioner.configs import EncoderSpec
from captioner.decoding import Decoding
from captioner.devices import Workload
from captioner.encoders import load_encoder
from captioner.errors import ModelError
from captioner.named_decodings import changed_decoding
from captioner.presets import PRESETS, model_digest, read_model_config
from storage.captions import run_settings
from storage.errors import ConfigurationError
from storage.layout import Root
from storage.models import find_trained
from storage.reading import is_stored, scoring_space
from storage.schema import SCHEMA_VERSION
from storage.settled import Settled
from tasks.assignments import assignments
from tasks.options import CaptionOptions, EmbedOptions
from tasks.settings.common import locate_model, model_encoder, numerics_for, space_form

_log = logging.getLogger(__name__)
CAPTION_VERSION = 4
"""Raised when the same settings would give other captions."""
CAPTIONS_AT_ONCE = 256
"""Captions that a CPU writes side by side: from there on its products gain nothing more."""


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
    place = options.rerank or options.encoder or scorer
    return locate_model(root, options.model), place if scorer else ""


def sources_of(root: Root, run: Settled) -> tuple[str, str]:
    """The same for a run of long ago, by the names in its settings.

    Raises ConfigurationError if its model is not to be found by that name.
    """
    name = str(run.resolved["model"])
    place = locate_model(root, name)
    try:
        same = model_digest(place) == run.resolved["weights"]
    except ModelError:
        same = False
    if not same:
        raise ConfigurationError(
            f"run {run.name!r} was written by a model in a folder {name!r} that is not here, or "
            "not the same any more: work from where that folder lies"
        )
    return place, str(run.resolved["scorer"])


def caption_request(root: Root, options: CaptionOptions, space: Settled) -> dict[str, Any]:
    """What decides the captions, as asked."""
    scale = {"embedding_scale": options.embedding_scale} if options.embedding_scale else {}
    keep = {"keep": options.keep} if options.keep else {}
    return {
        **scale,
        **keep,
        **_reranking(root, space),
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
        work = Workload(width=config.mapper.token_dim, batch_size=CAPTIONS_AT_ONCE)
        numerics = numerics_for(compute, lanes, work)
        return {
            "stage": "caption",
            "model": _label(root, options.model),
            "weights": request["model"],
            "embeddings": read,
            "decoding": request["decoding"],
            "scorer": _scorer(root, space, options),
            "numerics": asdict(numerics),
            "versions": request["versions"],
            **{name: request[name] for name in ("rerank", "keep") if name in request},
        }

    return run_settings(root).settle(request, resolve, title="model", name=options.run)


def check_space(wanted: EncoderSpec, space: Settled) -> None:
    """Raise ModelError, naming what differs, unless the embeddings are those a model reads."""
    given = {"name": space.resolved["encoder"], **space.resolved}
    for name, value in asdict(wanted).items():
        if given[name] != value and (wanted.name or name != "name"):
            raise ModelError(
                f"The model reads embeddings with {name} {value!r}, but {space.name!r} has "
                f"{given[name]!r}: embed with --encoder {wanted.name}."
            )


def _label(root: Root, model: str) -> str:
    if model in PRESETS:
        return model
    trained = find_trained(root, model)
    return str(trained) if trained else model.rstrip("/").rsplit("/", 1)[-1]


def _reranking(root: Root, space: Settled) -> dict[str, Any]:
    """Which other embeddings captions are scored by; nothing where there are none."""
    scored = scoring_space(root, space)
    if "scored_in" not in space.resolved or scored is None:
        return {}
    return {"rerank": {"space": scored.name, "fingerprint": scored.fingerprint}}


def _scorer(root: Root, space: Settled, options: CaptionOptions) -> str:
    """Name of the encoder whose text tower scores, empty for none."""
    if options.score is False:
        return ""
    scored = scoring_space(root, space) or space
    name = str(scored.resolved["encoder"]) or options.encoder
    if options.rerank and name == space.resolved["encoder"]:
        _log.warning("captions are re-ranked by %r, the encoder that they are written from", name)
    try:
        _check_named(name)
        form, offline = space_form(scored), options.compute.offline
        source = options.rerank or options.encoder or name
        load_encoder(source, form, device="cpu", offline=offline)
    except ModelError as error:
        if options.score or options.rerank:
            raise
        _log.warning("clip_sim stays null: %s", error)
        return ""
    return name


def _check_named(encoder: str) -> None:
    if not encoder:
        raise ModelError("The model names no encoder; give --encoder to have captions scored.")
