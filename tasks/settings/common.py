"""What the settings of several stages share: numerics, models by name, the form of embeddings."""

from dataclasses import replace

from captioner.configs import EncoderSpec, Form
from captioner.devices import Numerics, Workload, resolve_numerics
from captioner.presets import PRESETS, read_model_config
from storage.layout import Root
from storage.models import find_trained, model_folder
from storage.settled import Settled
from tasks.options import ComputeOptions


def numerics_for(compute: ComputeOptions, lanes: int, work: Workload = Workload()) -> Numerics:
    """Where and how precisely one of `lanes` workers computes."""
    numerics = resolve_numerics(compute.device, compute.dtype, compute.batch_size, lanes, work)
    return replace(numerics, threads=compute.threads) if compute.threads else numerics


def locate_model(root: Root, model: str) -> str:
    """What the captioner loads `model` from: a preset, a folder, or a model of this root."""
    if model not in PRESETS and (trained := find_trained(root, model)):
        return str(model_folder(root, trained))
    return model


def model_encoder(root: Root, model: str) -> EncoderSpec:
    """Which embeddings `model` reads, without torch."""
    return read_model_config(locate_model(root, model)).encoder


def space_form(space: Settled) -> Form:
    """In which form the embeddings of `space` are."""
    return Form(str(space.resolved["feature"]), bool(space.resolved["normalized"]))
