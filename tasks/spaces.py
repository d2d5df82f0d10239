"""Which embeddings a command reads: this root's own, or a folder of others; refused if unfit.

Nothing here needs torch or Prefect, and nothing is written before all is found fit.
"""

import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from captioner.configs import EncoderSpec
from captioner.encoders import normalizes
from captioner.presets import PRESETS
from captioner.recipes import find_recipe
from storage.errors import ConfigurationError
from storage.layout import Root
from storage.settled import Settled
from storage.stored import find_stored, look_of, register_stored
from storage.stored_folder import StoredFolder, StoredLook
from tasks.options import CaptionOptions, EmbedOptions, TrainOptions
from tasks.outstanding import unembedded
from tasks.reranking import rerank_embedding, with_scorer
from tasks.settings.common import locate_model, model_encoder
from tasks.settings.embed import find_embeddings
from tasks.settings.train import learnt_embeddings

_log = logging.getLogger(__name__)


def find_caption_space(
    root: Root, options: CaptionOptions, embeddings: EmbedOptions
) -> Settled | None:
    """The embeddings to caption, None if they are not made or not registered yet.

    ConfigurationError if the model cannot read those of others.
    """
    rerank_embedding(options)
    if options.embeddings:
        given = _given(root, options)
        return given.space and _read_as(given.space, given.wanted)
    if options.embedding_scale is not None:
        raise ConfigurationError("--embedding-scale is for stored ones: give --embeddings too")
    made = find_embeddings(root, embeddings)
    return made and with_scorer(root, options, made)


def caption_space(root: Root, options: CaptionOptions, embeddings: EmbedOptions) -> Settled:
    """The embeddings to caption, registered now if they are a new folder of others.

    ConfigurationError if there are none or the model cannot read them.
    """
    rerank_embedding(options)
    if options.embeddings:
        given = _given(root, options)
        _warn(given.folder, given.wanted.name)
        space = given.space or register_stored(root, given.folder, given.look)
        return _read_as(space, given.wanted)
    made = find_caption_space(root, options, embeddings)
    if made is None:
        scored = rerank_embedding(options)
        missing = scored if scored and find_embeddings(root, embeddings) else embeddings
        raise ConfigurationError(
            f"nothing under {root.url!r} is embedded with {missing.encoder!r}: "
            f"run nightcap embed {_flags(missing)} first"
        )
    return made


def training_space(root: Root, options: TrainOptions, embeddings: EmbedOptions) -> Settled:
    """The embeddings to train on, registered now if they are a new folder of others.

    ConfigurationError if some are missing or the recipe cannot go on with them.
    """
    if not options.embeddings:
        made = find_embeddings(root, embeddings)
        left = unembedded(root, made).shards if made else ()
        if made is None or left:
            raise ConfigurationError(
                f"{len(left) or 'all'} shards under {root.url!r} are not embedded with "
                f"{embeddings.encoder!r}: run nightcap embed {_flags(embeddings)} first"
            )
        return made
    folder = _there(options.embeddings)
    standing = find_stored(root, folder)
    look = look_of(standing) if standing else folder.look()
    wanted = _learning(root, options, look)
    _check(wanted, look, folder)
    if wanted.normalized != look.normalized:
        raise ConfigurationError(
            f"recipe {options.recipe!r} goes on with embeddings of other lengths than those in "
            f"{folder.shown!r}: train with the recipe nano-scratch"
        )
    _warn(folder, wanted.name)
    return _read_as(standing or register_stored(root, folder, look), wanted)


class _Given(NamedTuple):
    """A folder of others, found fit for a model."""

    folder: StoredFolder
    look: StoredLook
    space: Settled | None
    wanted: EncoderSpec


def _given(root: Root, options: CaptionOptions) -> _Given:
    folder = _there(options.embeddings)
    space = find_stored(root, folder)
    look = look_of(space) if space else folder.look()
    wanted = model_encoder(root, options.model)
    _check(wanted, look, folder)
    _check_scale(root, options, look)
    return _Given(folder, look, space, wanted)


def _there(url: str) -> StoredFolder:
    """The folder at `url`; ConfigurationError if it holds no embeddings, registered or not."""
    folder = StoredFolder(url)
    folder.pairs()
    return folder


def _learning(root: Root, options: TrainOptions, look: StoredLook) -> EncoderSpec:
    """What the new model will read: as the one it goes on from, or else as the folder is."""
    start = find_recipe(options.recipe).start
    if not start:
        return EncoderSpec(
            name=options.encoder,
            dim=look.dim,
            feature=learnt_embeddings(options).feature,
            normalized=look.normalized,
        )
    wanted = model_encoder(root, start)
    if options.encoder not in ("", wanted.name):
        raise ConfigurationError(
            f"recipe {options.recipe!r} goes on from a model that reads {wanted.name!r}, "
            f"not {options.encoder!r}: train with the recipe nano-scratch"
        )
    return wanted


def _check(wanted: EncoderSpec, look: StoredLook, folder: StoredFolder) -> None:
    if wanted.dim != look.dim:
        raise ConfigurationError(
            f"the model reads embeddings of width {wanted.dim}, but those in {folder.shown!r} "
            f"have {look.dim}: give the model that was trained on them"
        )


def _check_scale(root: Root, options: CaptionOptions, look: StoredLook) -> None:
    """Normalised embeddings fit a model of others only when multiplied; else nothing is done."""
    wanted, scale = model_encoder(root, options.model), options.embedding_scale
    if wanted.normalized and not look.normalized:
        raise ConfigurationError(
            f"model {options.model!r} reads embeddings of length 1, but those in "
            f"{options.embeddings!r} have other lengths: normalise them first"
        )
    needed = look.normalized and not wanted.normalized
    if needed and scale is None:
        mean = norm_mean(root, options.model)
        known = f"{mean:.6g}, the mean length it was trained on" if mean else "their mean length"
        raise ConfigurationError(
            f"model {options.model!r} reads embeddings that are not normalised, but those in "
            f"{options.embeddings!r} have length 1: give --embedding-scale {known}"
        )
    if scale is not None and not (needed and math.isfinite(scale) and scale > 0):
        raise ConfigurationError(
            f"--embedding-scale {scale:g} is not for this: give a number above 0, and only where "
            "embeddings have length 1 and the model's have not"
        )


def norm_mean(root: Root, model: str) -> float | None:
    """The mean length of the embeddings that `model` was trained on, where its record says it."""
    preset = PRESETS.get(model)
    place = preset.folder if preset else Path(locate_model(root, model))
    try:
        text = (place / "training.json").read_text(encoding="utf-8") if place else "{}"
        mean = json.loads(text)["result"]["embedding_norm_mean"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(mean) if isinstance(mean, int | float) else None


def _flags(embeddings: EmbedOptions) -> str:
    """How the embed command is told to make these embeddings."""
    words = ["--encoder", embeddings.encoder]
    if embeddings.feature != "projected":
        words += ["--feature", embeddings.feature]
    own = normalizes(embeddings.encoder, embeddings.feature)
    if embeddings.normalized not in (None, own):
        words.append("--normalized" if embeddings.normalized else "--not-normalized")
    return " ".join(words)


def _read_as(space: Settled, wanted: EncoderSpec) -> Settled:
    """`space` under the model's name for it: the files themselves name no encoder."""
    seen = {"encoder": wanted.name, "feature": wanted.feature}
    return replace(space, resolved=space.resolved | seen)


def _warn(folder: StoredFolder, encoder: str) -> None:
    taken = f"taken to be {encoder!r}, as the model's" if encoder else "and the model names none"
    _log.warning("the encoder of %r is not written in its files: %s", folder.shown, taken)
