"""From pictures to captions: encoders, mappers, language models, decoding, training.

Importing this package costs nothing: torch is loaded when a model is.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captioner.captions import Caption, Captioner
    from captioner.decoding import Beam, Greedy, Sample
    from captioner.encoders import Encoder, load_encoder
    from captioner.errors import CaptionerError, ModelError, PictureError
    from captioner.model import CaptionModel, load_model

__all__ = [
    "Beam",
    "Caption",
    "CaptionModel",
    "Captioner",
    "CaptionerError",
    "Encoder",
    "Greedy",
    "ModelError",
    "PictureError",
    "Sample",
    "load_encoder",
    "load_model",
]

_HOME = {
    "Beam": "decoding",
    "Caption": "captions",
    "CaptionModel": "model",
    "Captioner": "captions",
    "CaptionerError": "errors",
    "Encoder": "encoders",
    "Greedy": "decoding",
    "ModelError": "errors",
    "PictureError": "errors",
    "Sample": "decoding",
    "load_encoder": "encoders",
    "load_model": "model",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"captioner.{_HOME[name]}"), name)
