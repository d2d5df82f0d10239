"""Models that a lane has loaded: once in a process, however many shards it works on."""

from functools import lru_cache

from captioner.captions import Captioner
from captioner.configs import Form
from captioner.devices import Numerics, use_threads
from captioner.encoders import Encoder, load_encoder
from captioner.presets import load_captioner


def encoder_in_lane(name: str, form: Form, numerics: Numerics) -> Encoder:
    """The encoder, giving its embeddings in `form`; the stages share it, whatever their batches."""
    use_threads(numerics.threads)
    return _encoder(name, form, numerics.device, numerics.dtype)


def captioner_in_lane(model: str, numerics: Numerics) -> Captioner:
    """The captioner of a preset or folder."""
    use_threads(numerics.threads)
    return _captioner(model, numerics.device, numerics.dtype, numerics.batch_size)


@lru_cache(maxsize=2)
def _encoder(name: str, form: Form, device: str, dtype: str) -> Encoder:
    return load_encoder(name, form, device=device, dtype=dtype)


@lru_cache(maxsize=2)
def _captioner(model: str, device: str, dtype: str, batch_size: int) -> Captioner:
    return load_captioner(model, device=device, dtype=dtype, batch_size=batch_size)
