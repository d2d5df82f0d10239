"""Models that a lane has loaded: once in a process, however many shards it works on."""

from functools import lru_cache

from captioner.captions import Captioner
from captioner.configs import Form
from captioner.devices import Numerics, use_threads
from captioner.encoders import Encoder, load_encoder
from captioner.presets import load_captioner


@lru_cache(maxsize=2)
def encoder_in_lane(name: str, form: Form, numerics: Numerics) -> Encoder:
    """The encoder, giving its embeddings in `form`."""
    use_threads(numerics.threads)
    return load_encoder(name, form, device=numerics.device, dtype=numerics.dtype)


@lru_cache(maxsize=2)
def captioner_in_lane(model: str, numerics: Numerics) -> Captioner:
    """The captioner of a preset or folder."""
    use_threads(numerics.threads)
    return load_captioner(
        model, device=numerics.device, dtype=numerics.dtype, batch_size=numerics.batch_size
    )
