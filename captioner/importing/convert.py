"""Turns a checkpoint of another project into a model directory, whole or not at all."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.configs import ModelConfig
from captioner.importing.assembly import Assembled, assemble
from captioner.importing.checkpoints import read_checkpoint
from captioner.importing.families import family_of
from captioner.importing.habits import model_config
from captioner.importing.publishing import check_free, publish
from captioner.importing.sources import Found, find
from captioner.importing.weights import Sorted, sort_out
from captioner.model import CaptionModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What a checkpoint does not say of itself."""

    lm: str = ""
    """Hub id or folder of the GPT-2 that gives configuration and tokenizer; empty takes the
    published one of the checkpoint's size."""
    encoder: str = ""
    """The image encoder; empty where only stored embeddings will be captioned."""
    normalized: bool | None = None
    """Whether embeddings have length 1; None is as the family's published ones were run."""
    offline: bool = False
    """Forbid fetching anything."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a checkpoint."""

    family: str
    config: ModelConfig
    notes: dict[str, Any]
    """What training.json says."""
    suggested_encoder: str
    """The published checkpoints' encoder of this width; empty where there is none."""


def import_checkpoint(source: str, folder: Path, options: ImportOptions) -> Imported:
    """Read the checkpoint at `source` and write `folder`, which must be absent or empty.

    `source` is a file or hf://OWNER/REPOSITORY/PATH[@REVISION]. Raises ModelError, and writes
    nothing, for whatever cannot become a model.
    """
    check_free(folder)
    found = find(source, offline=options.offline)
    checkpoint = read_checkpoint(found.path)
    family = family_of(checkpoint.tensors)
    parts = sort_out(checkpoint, family)
    assembled = assemble(parts, family, options.lm, offline=options.offline)
    config = model_config(family, assembled, options.encoder, options.normalized)
    model = CaptionModel(config, assembled.language)
    model.mapper.load_state_dict(assembled.mapper_state)
    notes = {"origin": "import", "family": family.name, **_notes(found, parts, assembled)}
    publish(model, folder, assembled.dtype, notes)
    return Imported(family.name, config, notes, family.encoders.get(config.encoder.dim, ""))


def _notes(found: Found, parts: Sorted, assembled: Assembled) -> dict[str, Any]:
    with found.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size = found.path.stat().st_size
    return {
        "checkpoint": {**found.origin, "bytes": size, "sha256": sha256},
        "language_model": {
            "name": assembled.named.name,
            "revision": assembled.named.revision,
            "weights": "its own" if assembled.own_weights else "the checkpoint's",
        },
        "dtype": assembled.dtype,
        "set_aside": parts.aside,
        "left_out": list(parts.left_out),
    }
