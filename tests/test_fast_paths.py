"""The quicker ways through an encoder give what open_clip's own way gives."""

import io
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from captioner.encoders import load_encoder
from captioner.fakes import SizeEncoder
from captioner.open_clip_encoder import place
from captioner.packed import packs_linear
from captioner.packed_towers import PackedBlock, PackedPatches, pack_towers
from captioner.picture_tensors import quick
from captioner.pictures import decode, phash
from captioner.scoring import clip_similarities
from captioner.short_texts import encode_text

TEXT = {"context_length": 20, "vocab_size": 90, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}


def clip(seed: int = 0, *, quick_gelu: bool = False, **text: Any) -> Any:
    torch.manual_seed(seed)
    model = open_clip.CLIP(32, VISION, TEXT | text, quick_gelu=quick_gelu)
    return model.eval().requires_grad_(requires_grad=False)


def photo(width: int, height: int) -> Image.Image:
    """Soft shades, edges and a little noise, as a camera's pictures have."""
    y, x = np.mgrid[0:height, 0:width] / height
    waves = np.stack([np.sin(9 * x + 4 * y), np.cos(13 * y * x), np.sin(40 * (x - y) ** 2)], -1)
    waves[(x - 0.6) ** 2 + (y - 0.5) ** 2 < 0.05] = (0.9, -0.7, 0.2)
    noise = np.random.default_rng(1).normal(0, 0.03, waves.shape)
    return Image.fromarray(((waves + noise) * 110 + 128).clip(0, 255).astype(np.uint8))


def jpeg(width: int, height: int) -> bytes:
    file = io.BytesIO()
    photo(width, height).save(file, "JPEG", quality=92)
    return file.getvalue()


@pytest.mark.parametrize("side", [(500, 375), (375, 500), (224, 224), (90, 130)])
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_the_quick_transform_is_within_a_level_of_open_clips(
    mode: str, side: tuple[int, int]
) -> None:
    own = image_transform_v2(PreprocessCfg(size=224, resize_mode=mode), is_train=False)
    assert quick(own) is not own
    found, expected = quick(own)(photo(*side)), own(photo(*side))
    assert found.shape == expected.shape == (3, 224, 224)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() * 255 * 0.28 < 1.1


@pytest.mark.parametrize("settings", [{"resize_mode": "longest"}, {"size": (224, 160)}])
def test_a_transform_of_other_steps_is_left_alone(settings: dict[str, Any]) -> None:
    own = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    assert quick(own) is own


@torch.inference_mode()
@pytest.mark.parametrize("size", [(4000, 3000), (500, 375)])
def test_a_photo_embeds_as_its_full_decode_does(size: tuple[int, int]) -> None:
    data = jpeg(*size)
    own = image_transform_v2(PreprocessCfg(size=224), is_train=False)
    found = quick(own)(decode(data, shrink_to=224).rgb)
    expected = own(Image.open(io.BytesIO(data)))
    assert torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.999
    torch.manual_seed(0)
    tower = open_clip.CLIP(32, VISION | {"image_size": 224}, TEXT).eval()
    pair = tower.encode_image(torch.stack([found, expected]))
    assert torch.cosine_similarity(pair[0], pair[1], dim=0) > 0.999


def test_the_hash_stays_within_two_bits_of_imagehash() -> None:
    import imagehash

    for side in [(500, 375), (1500, 1000), (64, 64), (20, 30)]:
        picture = decode(jpeg(*side))
        expected = int(str(imagehash.phash(picture.rgb)), 16)
        assert (phash(picture) ^ expected).bit_count() <= 2


@torch.inference_mode()
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_packed_towers_embed_as_the_plain_ones(quick_gelu: bool) -> None:
    plain, packed = (clip(quick_gelu=quick_gelu).bfloat16() for _ in range(2))
    pack_towers(packed)
    gains = packs_linear(plain.visual.conv1.weight)
    assert isinstance(packed.visual.conv1, PackedPatches) == gains
    assert isinstance(packed.transformer.resblocks[0], PackedBlock) == gains
    pixels = torch.randn(5, 3, 64, 64)
    texts = torch.randint(1, 80, (5, 20))
    exact = clip(quick_gelu=quick_gelu)
    for expected, found in (
        (exact.encode_image(pixels), packed.encode_image(pixels.bfloat16())),
        (exact.encode_text(texts), packed.encode_text(texts)),
    ):
        assert torch.cosine_similarity(expected, found.float()).min() > 0.999


@torch.inference_mode()
def test_in_float32_a_placed_model_gives_what_it_gave() -> None:
    pixels = torch.randn(3, 3, 64, 64).to(memory_format=torch.channels_last)
    plain = clip().to(memory_format=torch.channels_last).encode_image(pixels)
    found = place(clip(), "cpu", "float32").encode_image(pixels)
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)


def padded(*lengths: int, end: int = 89) -> torch.Tensor:
    token_BT = torch.zeros(len(lengths), 20, dtype=torch.long)
    for row, length in enumerate(lengths):
        token_BT[row, :length] = torch.randint(1, 80, (length,))
        token_BT[row, length] = end
    return token_BT


@torch.inference_mode()
@pytest.mark.parametrize(
    "text",
    [
        {},
        {"pool_type": "eos", "eos_id": 89},
        {"pool_type": "last"},
        {"no_causal_mask": True},
        {"proj_bias": True},
    ],
)
def test_text_without_its_padding_has_the_same_embedding(text: dict[str, Any]) -> None:
    model = clip(**text)
    for token_BT in (padded(3, 7, 1), padded(19, 2), padded(4)):
        torch.testing.assert_close(
            encode_text(model, token_BT), model.encode_text(token_BT), rtol=0, atol=1e-5
        )


@torch.inference_mode()
def test_the_positions_behind_the_longest_text_are_not_computed() -> None:
    model = clip()
    seen = []
    model.transformer.resblocks[0].register_forward_hook(
        lambda _block, _given, out: seen.append(out.shape)
    )
    encode_text(model, padded(3, 7, 1))
    assert seen == [(3, 8, 32)]


def test_nano_scores_do_not_depend_on_who_else_is_scored() -> None:
    encoder = load_encoder("nano", device="cpu")
    texts = ["a red circle", "a small blue square above a large green striped triangle", "", "a"]
    together = encoder.encode_texts(texts)
    alone = torch.cat([encoder.encode_texts([text]) for text in texts])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


class Counting(SizeEncoder):
    """Counts the texts that it is asked for."""

    asked = 0

    def encode_texts(self, texts: Any) -> torch.Tensor:
        self.asked += len(texts)
        return super().encode_texts(texts)


def test_a_text_that_comes_again_is_encoded_once_and_scored_in_its_own_row() -> None:
    encoder = Counting()
    texts = ["30 by 20", "7 by 900", "30 by 20", "30 by 20", "7 by 900"]
    image_BC = encoder.encode_texts(texts)
    encoder.asked = 0
    assert clip_similarities(encoder, texts, image_BC, batch_size=2) == pytest.approx([1] * 5)
    assert encoder.asked == 2
    assert clip_similarities(encoder, [], image_BC[:0]) == []
