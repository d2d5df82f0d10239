"""Image and text encoders by name: what every encoder offers, and how a name finds its own.

Shapes:  B batch   C embedding   H height   W width
Names and digests are answered without torch; it is imported when an encoder is loaded.
"""

import difflib
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from captioner.configs import EncoderSpec, Form, read_config
from captioner.digests import files_digest, text_digest
from captioner.errors import ModelError
from captioner.nano import ENCODER
from captioner.offline import is_offline

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

NANO_ENCODER = ENCODER
SIZE = "size"
_FILES = ("config.json", "model.safetensors", "tokenizer.json")


@runtime_checkable
class Encoder(Protocol):
    """Turns pictures and texts into embeddings of one space."""

    name: str
    dim: int
    feature: str
    normalized: bool
    image_size: int
    revision: str
    """The hub's commit of its weights; empty where they are no hub's."""

    def preprocess(self, rgb: "Image") -> "Tensor":
        """An upright RGB picture as float32 pixels_CHW; may be called from several threads."""

    def encode_images(self, pixels_BCHW: "Tensor") -> "Tensor":
        """Embeddings image_BC of preprocessed pictures: float32, on the CPU."""

    def encode_texts(self, texts: Sequence[str]) -> "Tensor":
        """Embeddings text_BC of length 1: float32, on the CPU."""

    def project(self, image_BC: "Tensor") -> "Tensor":
        """This encoder's image embeddings in the space of its texts: float32, on the CPU."""


def spec_of(encoder: Encoder) -> EncoderSpec:
    """What a model has to match to read this encoder's embeddings."""
    return EncoderSpec(
        name=encoder.name,
        dim=encoder.dim,
        feature=encoder.feature,
        normalized=encoder.normalized,
    )


def load_encoder(
    name: str | Path,
    form: Form = Form(),
    *,
    device: str = "auto",
    dtype: str = "auto",
    offline: bool = False,
) -> Encoder:
    """The encoder called `name`, giving its embeddings in `form`.

    `nano` ships with the package, `size` is the weightless fake, a folder holds config.json,
    model.safetensors and tokenizer.json, and anything else is open_clip's `NAME[/PRETRAINED]`,
    whose weights open_clip fetches on first use. Raises ModelError if there is no such encoder,
    if it cannot give that form, or if its weights are not at hand and may not or cannot be
    fetched.
    """
    if form.normalized is None:
        form = replace(form, normalized=normalizes(name, form.feature))
    if str(name) == SIZE:
        from captioner.fakes import SizeEncoder  # noqa: PLC0415 - imports torch

        if form != Form(normalized=False):
            raise ModelError(f"The encoder {SIZE!r} has only projected, unnormalised embeddings.")
        return SizeEncoder()
    folder = encoder_folder(name)
    if folder:
        from captioner.folder_encoder import load_folder  # noqa: PLC0415 - imports torch

        return load_folder(folder, _folder_name(name, folder), form, device=device, dtype=dtype)
    check_encoder(name)
    from captioner.open_clip_encoder import load_open_clip  # noqa: PLC0415 - imports torch

    offline = is_offline(offline)
    return load_open_clip(str(name), form, device=device, dtype=dtype, offline=offline)


def normalizes(name: str | Path, feature: str = "projected") -> bool:
    """Whether embeddings have length 1 unless someone says otherwise; no torch.

    Only projected ones do, and only where a folder's config.json says so.
    """
    folder = encoder_folder(name) if feature == "projected" else None
    return bool(read_config(folder).get("normalized", True)) if folder else False


def check_encoder(name: str | Path) -> None:
    """Raise ModelError, naming what comes near, unless an encoder goes by `name`; no torch."""
    if str(name) == SIZE or encoder_folder(name):
        return
    model = str(name).split("/", maxsplit=1)[0]
    known = open_clip_names()
    if model in known:
        return
    if "@" in model:
        raise ModelError(f"The encoder {str(name)!r} is a local one: give its folder instead.")
    near = difflib.get_close_matches(model, ["nano", *known], n=3, cutoff=0.5)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ModelError(
        f"There is no encoder {str(name)!r}: it is neither nano, nor a folder with a config.json, "
        f"nor an open_clip model NAME[/PRETRAINED].{meant}"
    )


def encoder_digest(name: str | Path, *, offline: bool = False) -> str:  # noqa: ARG001
    """sha256 (hex) of an encoder's files; for open_clip's, of its name with its pretrained tag.

    Needs neither torch nor network. Raises ModelError if there is no such encoder.
    """
    check_encoder(name)
    folder = encoder_folder(name)
    if not folder:
        return text_digest(f"encoder {name}")
    try:
        return files_digest(folder, _FILES)
    except OSError as error:
        raise ModelError(f"The encoder in {str(folder)!r} cannot be read: {error}.") from error


def encoder_folder(name: str | Path) -> Path | None:
    """Where a packaged or local encoder lies; None where `name` is no folder."""
    if str(name) == "nano":
        return NANO_ENCODER
    folder = Path(name)
    return folder if (folder / "config.json").is_file() else None


def open_clip_names() -> list[str]:
    """The architectures open_clip knows, read off its files because importing it takes seconds."""
    package = importlib.util.find_spec("open_clip")
    places = (package.submodule_search_locations if package else None) or []
    return sorted(
        path.stem for place in places for path in Path(place, "model_configs").glob("*.json")
    )


def _folder_name(name: str | Path, folder: Path) -> str:
    """A local encoder is named after its content, so that no two towers share embeddings."""
    if str(name) == "nano":
        return "nano"
    title = str(read_config(folder).get("name", folder.name)).split("@", maxsplit=1)[0]
    return f"{title}@{encoder_digest(folder)[:8]}"
