"""The settings of embeddings: requested without torch, resolved once in a lane."""

from dataclasses import asdict, replace
from typing import Any

from captioner.configs import Form
from captioner.devices import Workload
from captioner.encoders import encoder_digest, load_encoder, normalizes, spec_of
from storage.embeddings import embedding_settings
from storage.layout import Root
from storage.schema import SCHEMA_VERSION
from storage.settled import Settled
from tasks.options import EmbedOptions
from tasks.settings.common import numerics_for

EMBED_VERSION = 2
"""Raised when the same settings would give other embeddings."""


def embed_request(options: EmbedOptions) -> dict[str, Any]:
    """What decides the embeddings, as asked."""
    own = normalizes(options.encoder, options.feature)
    return {
        "stage": "embed",
        "encoder": encoder_digest(options.encoder, offline=options.compute.offline),
        "feature": options.feature,
        "normalized": own if options.normalized is None else options.normalized,
        "value": options.value,
        "device": options.compute.device,
        "dtype": _dtype(options),
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
        plain = replace(compute, dtype=_dtype(options))
        numerics = numerics_for(plain, lanes, Workload(width=encoder.dim))
        spec = asdict(spec_of(encoder))
        return {
            "stage": "embed",
            "encoder": spec.pop("name"),
            "weights": request["encoder"],
            "revision": encoder.revision,
            **spec,
            "value": options.value,
            "numerics": asdict(numerics),
            "versions": request["versions"],
        }

    return embedding_settings(root).settle(request, resolve, title="encoder")


def _dtype(options: EmbedOptions) -> str:
    """The precision asked for; 8 bits are for language models, of a whole `run` too."""
    return "auto" if options.compute.dtype == "int8" else options.compute.dtype
