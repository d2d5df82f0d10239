"""Which caption models go by a name, and where a model given by name or folder lies.

Nothing here imports torch until a model is loaded.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.architectures import ARCHITECTURES
from captioner.configs import EncoderSpec, MapperConfig, ModelConfig, read_config
from captioner.decoding import Greedy
from captioner.digests import files_digest, text_digest
from captioner.errors import ModelError
from captioner.nano import CAPTIONER

if TYPE_CHECKING:
    from captioner.captions import Captioner

NANO_MODEL = CAPTIONER
SIZE = "size"
SIZE_CONFIG = ModelConfig(
    encoder=EncoderSpec(name=SIZE, dim=5, normalized=False),
    mapper=MapperConfig(kind="none", image_dim=5, token_dim=1, prefix_tokens=1),
    decoding=Greedy(max_tokens=2),
)
"""What the weightless model of `fakes` reads and writes."""
_WEIGHT_FOLDERS = ("lm", "tokenizer")


@dataclass(frozen=True, slots=True)
class Preset:
    """A caption model that comes with the package."""

    name: str
    folder: Path | None
    """Where its files are; None where it has none."""
    about: str
    """One line for a list of models."""


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("nano", NANO_MODEL, "knows only drawn scenes; ships with the package, no network"),
        Preset(SIZE, None, "no weights: captions a picture with its size, for dry runs"),
    )
}


def find_model(model: str | Path) -> Path:
    """The folder of a preset or of a model directory; raises ModelError for anything else."""
    preset = PRESETS.get(str(model))
    if preset and preset.folder:
        return preset.folder
    if preset:
        raise ModelError(f"The model {preset.name!r} has no weights: it only stands in for one.")
    folder = Path(model)
    if (folder / "config.json").is_file():
        return folder
    if folder.is_dir():
        raise ModelError(f"The folder {str(model)!r} holds no model: it has no config.json.")
    raise ModelError(_unknown(str(model)))


def read_model_config(model: str | Path) -> ModelConfig:
    """What a model's config.json says, without torch; raises ModelError."""
    if str(model) == SIZE:
        return SIZE_CONFIG
    return ModelConfig.from_json(read_config(find_model(model)))


def model_digest(model: str | Path) -> str:
    """sha256 (hex) of all files that decide a model's captions, without torch.

    Covers config.json, the mapper, lm/ and tokenizer/; training.json and other notes that lie
    beside them do not count. Raises ModelError if there is no such model.
    """
    if str(model) == SIZE:
        return text_digest("size 1")
    folder = find_model(model)
    inside = [
        str(path.relative_to(folder).as_posix())
        for part in _WEIGHT_FOLDERS
        for path in (folder / part).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    ]
    try:
        return files_digest(folder, ["config.json", "mapper.safetensors", *inside])
    except OSError as error:
        raise ModelError(f"The model in {str(folder)!r} cannot be read: {error}.") from error


def load_captioner(
    model: str | Path, *, device: str = "auto", dtype: str = "auto", batch_size: int = 256
) -> "Captioner":
    """The captioner of a preset (the weightless `size` too) or of a model directory."""
    if str(model) == SIZE:
        from captioner.fakes import SizeCaptioner  # noqa: PLC0415 - imports torch

        return SizeCaptioner()
    from captioner.model import load_model  # noqa: PLC0415 - imports torch

    return load_model(model, device=device, dtype=dtype, batch_size=batch_size)


def _unknown(model: str) -> str:
    if model in ARCHITECTURES:
        return (
            f"The model {model!r} has no weights here: train them (nightcap train --recipe) or "
            "import a checkpoint (nightcap import), and give the model's name or folder."
        )
    near = difflib.get_close_matches(model, PRESETS, n=2, cutoff=0.5)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    return (
        f"There is no model {model!r}: it is no preset ({', '.join(PRESETS)}) "
        f"and no local model directory; a checkpoint becomes one by nightcap import.{meant}"
    )
