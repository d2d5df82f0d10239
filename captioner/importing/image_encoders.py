"""What `--encoder` may name, and whether its embeddings are as wide as a checkpoint reads."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from captioner.configs import read_config
from captioner.encoders import check_encoder, encoder_folder, load_encoder
from captioner.errors import ModelError


def encoder_name(name: str, *, feature: str, dim: int) -> str:
    """The encoder's full name; raises ModelError unless it is known and can be `dim` wide.

    Widths are read off configurations, without weights; one that no configuration tells is
    accepted. A name without the tag of its weights is refused: they are not interchangeable.
    """
    check_encoder(name)
    folder = encoder_folder(name)
    model = read_config(folder).get("model_cfg", {}) if folder else _architecture(name)
    width = _width(model, feature)
    if width not in (None, dim):
        raise ModelError(
            f"The checkpoint reads {feature} embeddings of width {dim}, but {name!r} gives {width}."
        )
    return load_encoder(name, device="cpu").name if folder else name


def _architecture(name: str) -> dict[str, Any]:
    import open_clip  # noqa: PLC0415 - takes seconds

    architecture, _, tag = name.partition("/")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        some = ", ".join(f"{architecture}/{known}" for known in tags[:5])
        raise ModelError(f"Say which weights of {architecture!r}: {some}.")
    package = find_spec("open_clip")
    places = (package.submodule_search_locations if package else None) or []
    path = Path(places[0], "model_configs", f"{architecture}.json")
    model: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return model


def _width(model: dict[str, Any], feature: str) -> int | None:
    """Width of the embedding; None where only the built network would tell."""
    tower = model.get("vision_cfg", {})
    if feature == "projected":
        return model.get("embed_dim")
    plain = isinstance(tower.get("layers"), int) and not tower.get("attentional_pool")
    return tower.get("width") if plain else None
