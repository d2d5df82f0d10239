"""CLIP towers built by open_clip, as encoders; open_clip itself fetches and caches their weights.

Shapes:  B batch   C embedding   H height   W width   T text tokens
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional

from captioner.configs import Form
from captioner.devices import resolve_device, resolve_dtype, torch_dtype
from captioner.errors import ModelError
from captioner.packed_towers import PackedPatches, pack_towers
from captioner.picture_tensors import quick
from captioner.short_texts import encode_text
from captioner.towers import Projection, take_projection

_LAYOUT = torch.channels_last  # a third faster for convolutions on a CPU


class ClipEncoder:
    """An open_clip model seen through its projected embeddings, or through its pooled features."""

    def __init__(
        self,
        *,
        name: str,
        model: Any,
        transform: Callable[[Image], Tensor],
        tokens: Callable[[Sequence[str]], Tensor],
        form: Form,
    ) -> None:
        self.name = name
        self.revision = ""
        self.feature = form.feature
        self.normalized = bool(form.normalized)
        self._model = model
        self._transform = quick(transform)
        self._tokens = tokens
        self._projection: Projection | None = None
        packed = isinstance(getattr(model.visual, "conv1", None), PackedPatches)
        self._layout = torch.contiguous_format if packed else _LAYOUT
        size = model.visual.image_size
        height, width = (size, size) if isinstance(size, int) else size
        self.image_size: int = min(height, width)
        if form.feature == "pooled":
            self._projection, straight = take_projection(model.visual, name)
            if form.normalized and not straight:
                raise ModelError(
                    f"The pooled features of {name!r} cannot be normalised: their projection has "
                    "a bias, so that captions could no longer be scored."
                )
        self.dim = int(self.encode_images(torch.zeros(1, 3, height, width)).shape[-1])

    def preprocess(self, rgb: Image) -> Tensor:
        """An upright RGB picture as float32 pixels_CHW; may be called from several threads."""
        return self._transform(rgb)

    @torch.inference_mode()
    def encode_images(self, pixels_BCHW: Tensor) -> Tensor:
        """Embeddings image_BC of preprocessed pictures: float32, on the CPU."""
        weight = next(self._model.parameters())
        pixels_BCHW = pixels_BCHW.to(weight.device, weight.dtype, memory_format=self._layout)
        if self._projection is None:
            found = self._model.encode_image(pixels_BCHW)
        else:
            found = self._model.visual(pixels_BCHW)
        image_BC: Tensor = (found[0] if isinstance(found, tuple) else found).float()
        if self.normalized:
            image_BC = functional.normalize(image_BC, dim=-1)
        return image_BC.cpu()

    @torch.inference_mode()
    def project(self, image_BC: Tensor) -> Tensor:
        """This encoder's embeddings in the space of its texts: float32, on the CPU."""
        if self._projection is None:
            return image_BC.float().cpu()
        weight = next(self._model.parameters())
        projected_BC: Tensor = self._projection(image_BC.to(weight.device, weight.dtype))
        return projected_BC.float().cpu()

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings text_BC of length 1: float32, on the CPU."""
        token_BT = self._tokens(texts).to(next(self._model.parameters()).device)
        text_BC = encode_text(self._model, token_BT).float()
        return functional.normalize(text_BC, dim=-1).cpu()


def load_open_clip(name: str, form: Form, *, device: str, dtype: str, offline: bool) -> ClipEncoder:
    """The encoder open_clip calls `NAME[/PRETRAINED]`.

    Without a tag the weights are `openai`'s where there are such, else the first that open_clip
    lists. Raises ModelError for an unknown tag and for weights that cannot be had.
    """
    model_name, tag = _resolve_tag(name)
    facts = get_pretrained_cfg(model_name, tag)
    weights = _weights(f"{model_name}/{tag}", facts, offline=offline)
    try:
        model, _, transform = open_clip.create_model_and_transforms(
            model_name,
            pretrained=str(weights),
            force_quick_gelu=bool(facts.get("quick_gelu", False)),
            image_mean=facts.get("mean"),
            image_std=facts.get("std"),
            image_interpolation=facts.get("interpolation"),
            image_resize_mode=facts.get("resize_mode"),
            pretrained_text=False,
            weights_only=True,
        )
        tokens = open_clip.get_tokenizer(model_name)
    except (RuntimeError, OSError, ValueError, ImportError) as error:
        raise ModelError(f"The encoder {name!r} cannot be loaded: {_line(error)}") from error
    encoder = ClipEncoder(
        name=f"{model_name}/{tag}",
        model=place(model, device, dtype),
        transform=transform,
        tokens=lambda texts: tokens(list(texts)),
        form=form,
    )
    encoder.revision = hub_revision(weights)
    return encoder


def hub_revision(file: Path) -> str:
    """The commit that a file in the hub's cache is of; empty for a file from elsewhere."""
    parts = file.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else ""


def place(model: Any, device: str, dtype: str) -> Any:
    """The model on its device in its precision, set for inference, packed where that gains."""
    kind = resolve_device(device)
    precision = torch_dtype(resolve_dtype(dtype, kind))
    placed = model.to(kind, precision, memory_format=_LAYOUT)
    placed = placed.eval().requires_grad_(requires_grad=False)
    pack_towers(placed)
    return placed


def preprocessing(settings: Mapping[str, Any]) -> Callable[[Image], Tensor]:
    """open_clip's inference transform for size, mean, std, interpolation and resize_mode."""
    try:
        transform: Callable[[Image], Tensor] = image_transform_v2(
            PreprocessCfg(**settings), is_train=False
        )
    except (TypeError, AssertionError) as error:
        raise ModelError(f"The encoder's preprocess settings are not valid: {error}.") from error
    return transform


def _resolve_tag(name: str) -> tuple[str, str]:
    model_name, _, tag = name.partition("/")
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if not tags:
        raise ModelError(f"open_clip has no pretrained weights for {model_name!r}.")
    if not tag:
        return model_name, "openai" if "openai" in tags else tags[0]
    if tag not in tags:
        near = difflib.get_close_matches(tag, tags, n=3, cutoff=0.3) or tags[:5]
        raise ModelError(
            f"{model_name!r} has no weights {tag!r}; some that it has: {', '.join(near)}."
        )
    return model_name, tag


def _weights(name: str, facts: Mapping[str, Any], *, offline: bool) -> Path:
    if offline:
        path = _cached(facts)
        if path is None:
            raise ModelError(
                f"The weights of {name!r} are not in the local cache and may not be fetched "
                "offline; run once with network, or use the packaged encoder nano."
            )
        return path
    try:
        return Path(download_pretrained(dict(facts)))
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"The weights of {name!r} cannot be fetched ({_line(error)}); "
            "check the network, or use the packaged encoder nano."
        ) from error


def _cached(facts: Mapping[str, Any]) -> Path | None:
    """Where an earlier run left the weights, found without any network access."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - slow to import

    repository, _, file = str(facts.get("hf_hub", "")).rpartition("/")
    if repository:
        names = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        found = [try_to_load_from_cache(repository, each) for each in names]
        return next((Path(path) for path in found if isinstance(path, str)), None)
    path = Path.home() / ".cache" / "clip" / str(facts.get("url", "")).rpartition("/")[2]
    return path if path.is_file() else None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
