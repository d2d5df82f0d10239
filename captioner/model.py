"""A caption model: embedding in, caption out; saved to and loaded from one folder.

Shapes:  B batch   C image embedding   P prefix tokens   D token embedding
The folder holds config.json, mapper.safetensors (mapper and standardisation), lm/ in
transformers' layout and tokenizer/. Publishing it atomically is its caller's business.
"""

import json
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from captioner.captions import Caption, unheard
from captioner.configs import EncoderSpec, ModelConfig, read_config
from captioner.decoding import Decoding, Greedy
from captioner.devices import resolve_device, resolve_dtype, torch_dtype
from captioner.encoders import Encoder, load_encoder, spec_of
from captioner.engine.prefixes import AT_ONCE, Prefixes
from captioner.errors import ModelError
from captioner.language import LanguageModel, load_language
from captioner.mappers import Standardise, build_mapper
from captioner.openings import opened
from captioner.presets import find_model
from captioner.wording import caption_of

_FORM = ("dim", "feature", "normalized")


class CaptionModel(nn.Module):
    """Standardisation, mapper and language model behind one encoder's embeddings."""

    def __init__(self, config: ModelConfig, language: LanguageModel) -> None:
        super().__init__()
        if config.mapper.token_dim != language.token_dim:
            raise ModelError(
                f"The mapper writes tokens of width {config.mapper.token_dim}, but the language "
                f"model reads {language.token_dim}."
            )
        self.config = config
        self.batch_size = AT_ONCE
        """Captions computed together; another number may change the last bits."""
        self.standardise = Standardise(config.encoder.dim) if config.standardise else nn.Identity()
        self.mapper = build_mapper(config.mapper)
        self.language = language
        self.opening = opened(language, config.opening)

    @property
    def encoder_spec(self) -> EncoderSpec:
        """Which embeddings this model reads; anything else must be refused."""
        return self.config.encoder

    @property
    def decoding(self) -> Decoding:
        """How captions are written when the caller does not say."""
        return self.config.decoding

    def prefix(self, image_BC: Tensor) -> Tensor:
        """What the language model reads in place of each image: prefix_BPD.

        Embeddings are standardised in float32, then computed in the model's own precision.
        Raises ModelError for embeddings of another width.
        """
        if image_BC.ndim != 2 or image_BC.shape[1] != self.config.encoder.dim:
            raise ModelError(
                f"The model reads embeddings of shape (B, {self.config.encoder.dim}), "
                f"got {tuple(image_BC.shape)}."
            )
        weight = next(self.mapper.parameters())
        image_BC = self.standardise(image_BC.to(weight.device, torch.float32))
        prefix_BPD: Tensor = self.mapper(image_BC.to(weight.dtype))
        return prefix_BPD

    @overload
    def caption_embeddings(
        self, image_BC: Tensor, decoding: Greedy | None = None
    ) -> list[Caption]: ...
    @overload
    def caption_embeddings(
        self, image_BC: Tensor, decoding: Decoding
    ) -> list[Caption] | list[list[Caption]]: ...
    def caption_embeddings(
        self, image_BC: Tensor, decoding: Decoding | None = None
    ) -> list[Caption] | list[list[Caption]]:
        """One caption for each row of `image_BC`, in order; `decoding` defaults to the model's.

        Where the decoding writes several captions an image (`Sample(n=5)`), a list for each row.
        """
        decoding = decoding or self.decoding
        captions = self.candidates(image_BC, decoding)
        return [row[0] for row in captions] if decoding.candidates == 1 else captions

    @torch.inference_mode()
    def candidates(
        self,
        image_BC: Tensor,
        decoding: Decoding,
        ids: Sequence[str] | None = None,
        progress: Callable[[int], None] = unheard,
    ) -> list[list[Caption]]:
        """`decoding.candidates` captions for each row of `image_BC`, in order.

        Draws depend on `ids`, by default a hash of each embedding, and not on the batch. Without
        `ids`, raises ModelError for an embedding that is not finite; whoever gives them has looked.
        `progress` is told how many more images are done. Never more than `batch_size` captions are
        computed together, however many images are given.
        """
        if ids is None:
            _check_finite(image_BC)
            ids = [blake2b(row.tobytes(), digest_size=16).hexdigest() for row in _rows(image_BC)]
        prefixes = Prefixes(
            make=lambda first, end: self.prefix(image_BC[first:end]),
            count=len(image_BC),
            length=self.config.mapper.prefix_tokens,
            device=next(self.mapper.parameters()).device,
            at_once=self.batch_size,
            progress=progress,
        )
        rows = decoding.generate(self.opening, prefixes, ids)
        say = self.language.text
        return [[caption_of(one, say, self.config.wording, decoding) for one in r] for r in rows]

    def caption_images(
        self,
        pictures: Sequence[Image],
        *,
        encoder: Encoder | None = None,
        decoding: Decoding | None = None,
    ) -> list[Caption] | list[list[Caption]]:
        """One caption (or list of captions) for each upright RGB picture, in order.

        Without `encoder` the model's own is loaded. Raises ModelError if they do not match.
        """
        encoder = encoder or load_encoder(self.encoder_spec.name, self.encoder_spec.form)
        check_match(self.encoder_spec, spec_of(encoder))
        if not pictures:
            return []
        pixels_BCHW = torch.stack([encoder.preprocess(picture) for picture in pictures])
        image_BC = encoder.encode_images(pixels_BCHW)
        return self.caption_embeddings(image_BC, decoding or self.decoding)

    def save(self, folder: Path, *, dtype: str = "float32") -> None:
        """Write the model into `folder`, which must be absent or empty, with weights as `dtype`."""
        if folder.exists() and any(folder.iterdir()):
            raise ModelError(f"The folder {str(folder)!r} is not empty; give a new one.")
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.config.to_json(), indent=2, sort_keys=True) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")
        kept = {
            key: value.to("cpu", torch_dtype(dtype)).contiguous()
            for key, value in self.state_dict().items()
            if key.startswith("mapper.")
        }
        figures = {
            key: value.to("cpu").contiguous()
            for key, value in self.state_dict().items()
            if key.startswith("standardise.")
        }
        (folder / "mapper.safetensors").write_bytes(save(kept | figures))
        self.language.save(folder, torch_dtype(dtype))


def load_model(
    model: str | Path, *, device: str = "auto", dtype: str = "auto", batch_size: int = AT_ONCE
) -> CaptionModel:
    """The model of a preset or of a model directory, ready for inference.

    `auto` is CUDA where there is one, in bfloat16 or float16, else the CPU, in bfloat16 where that
    is faster for a model of this width, else in float32. With `batch_size` captions are computed
    together. Raises ModelError if there is no such model, its files do not fit each other, or the
    device is MPS.
    """
    folder = find_model(model)
    config = ModelConfig.from_json(read_config(folder))
    kind = resolve_device(device)
    if kind == "mps":
        raise ModelError("Captions are summed in float64, and MPS has no float64; use device cpu.")
    resolved = resolve_dtype(dtype, kind, config.mapper.token_dim)
    precision = torch_dtype(resolved)
    loaded = CaptionModel(config, load_language(folder, precision))
    loaded.language.int8 = resolved == "int8"
    loaded.batch_size = batch_size
    _fill(loaded, folder)
    loaded.mapper.to(precision)
    return loaded.to(kind).eval().requires_grad_(requires_grad=False)


def check_match(model: EncoderSpec, given: EncoderSpec) -> None:
    """Raise ModelError, saying what differs, unless a model can read the given embeddings."""
    for name in ("name", "dim", "feature", "normalized") if model.name else _FORM:
        wanted, found = getattr(model, name), getattr(given, name)
        if wanted != found:
            raise ModelError(
                f"The model reads embeddings of the encoder {model.name!r} ({name} {wanted!r}), "
                f"but these have {name} {found!r}; embed with the model's own encoder."
            )


def _check_finite(image_BC: Tensor) -> None:
    sound_B = torch.isfinite(image_BC).flatten(1).all(dim=1)
    if not bool(sound_B.all()):
        raise ModelError(f"Embedding {int((~sound_B).nonzero()[0])} holds NaN or an infinity.")


def _rows(image_BC: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return image_BC.detach().to("cpu", torch.float32).contiguous().numpy()


def _fill(model: CaptionModel, folder: Path) -> None:
    """Load mapper.safetensors; every key and shape must be the one config.json implies."""
    path = folder / "mapper.safetensors"
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error}.") from error
    want = {
        key: tuple(value.shape)
        for key, value in model.state_dict().items()
        if key.startswith(("mapper.", "standardise."))
    }
    have = {key: tuple(value.shape) for key, value in state.items()}
    wrong = sorted(set(want.items()) ^ set(have.items()))
    if wrong:
        names = ", ".join(sorted({key for key, _ in wrong}))
        raise ModelError(f"{str(path)!r} does not fit its config.json at: {names}.")
    model.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
