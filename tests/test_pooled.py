"""Pooled features: what a tower gives before its projection, and how they are scored."""

from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from tiny_models import tiny_encoder_folder
from torch.nn import functional

from captioner.configs import Form
from captioner.encoders import load_encoder, spec_of
from captioner.errors import ModelError
from captioner.open_clip_encoder import ClipEncoder
from captioner.scoring import clip_similarities

TEXTS = ["a red circle", "two blue stars"]


def pixels(encoder: ClipEncoder) -> torch.Tensor:
    noise = torch.randint(0, 256, (2, 40, 50, 3), generator=torch.manual_seed(3))
    pictures = [Image.fromarray(one.to(torch.uint8).numpy()) for one in noise]
    return torch.stack([encoder.preprocess(one) for one in pictures])


def timm_encoder(feature: str, normalized: bool = False) -> ClipEncoder:
    """A random SigLIP-like pair: a timm tower with a linear projection that has a bias."""
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(
        embed_dim=16,
        vision_cfg={
            "timm_model_name": "vit_tiny_patch16_224",
            "timm_proj": "linear",
            "timm_proj_bias": True,
            "image_size": 224,
        },
        text_cfg={"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1},
    ).eval()
    return ClipEncoder(
        name="timm",
        model=model,
        transform=lambda rgb: torch.full((3, 224, 224), rgb.getpixel((0, 0))[0] / 255),
        tokens=lambda texts: torch.ones(len(texts), 8, dtype=torch.long),
        form=Form(feature, normalized),
    )


def pair(kind: str, folder: Path) -> tuple[ClipEncoder, ClipEncoder]:
    if kind == "timm":
        return timm_encoder("projected"), timm_encoder("pooled")
    name = "nano" if kind == "resnet" else tiny_encoder_folder(folder / "tower")
    projected = load_encoder(name, Form("projected", normalized=False), device="cpu")
    pooled = load_encoder(name, Form("pooled", normalized=False), device="cpu")
    return projected, pooled


@pytest.mark.parametrize("kind", ["transformer", "resnet", "timm"])
def test_a_pooled_feature_becomes_the_projected_one_by_the_towers_projection(
    kind: str, tmp_path: Path
) -> None:
    projected, pooled = pair(kind, tmp_path)
    image_BC, pooled_BD = (
        projected.encode_images(pixels(projected)),
        pooled.encode_images(pixels(pooled)),
    )
    assert pooled_BD.shape == (2, pooled.dim)
    assert pooled.dim != projected.dim
    assert torch.allclose(pooled.project(pooled_BD), image_BC, atol=1e-5, rtol=1e-4)
    assert projected.project(image_BC).equal(image_BC)
    right = clip_similarities(projected, TEXTS, image_BC)
    assert clip_similarities(pooled, TEXTS, pooled_BD) == pytest.approx(right, abs=1e-5)


def test_the_feature_is_part_of_what_a_model_has_to_match(tmp_path: Path) -> None:
    projected, pooled = pair("transformer", tmp_path)
    assert spec_of(pooled).feature == "pooled"
    assert spec_of(pooled) != spec_of(projected)


def test_normalised_features_have_length_1_and_are_scored_alike(tmp_path: Path) -> None:
    _, plain = pair("transformer", tmp_path)
    long = load_encoder(tmp_path / "tower", Form("pooled", normalized=True), device="cpu")
    plain_BD, long_BD = plain.encode_images(pixels(plain)), long.encode_images(pixels(long))
    assert torch.allclose(long_BD, functional.normalize(plain_BD, dim=-1), atol=1e-6)
    scores = clip_similarities(plain, TEXTS, plain_BD)
    assert clip_similarities(long, TEXTS, long_BD) == pytest.approx(scores, abs=1e-5)


def test_what_could_not_be_scored_or_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="projection has a bias"):
        load_encoder("nano", Form("pooled", normalized=True), device="cpu")
    with pytest.raises(ModelError, match="projected or pooled, got 'hidden'"):
        load_encoder("nano", Form("hidden"))
    with pytest.raises(ModelError, match="'size' has only projected"):
        load_encoder("size", Form("pooled"))
