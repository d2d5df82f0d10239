"""What Numba compiled computes what torch's operators do, in every company, and is never needed.

Float64 is the plain way: there are no kernels for it.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from captioner import scenes
from captioner.configs import Form
from captioner.encoders import load_encoder
from captioner.engine.blocks import Blocks, CompiledBlocks, TorchBlocks, blocks_for
from captioner.engine.compiled import kernels_for
from captioner.engine.likeliest import best, likeliest
from captioner.nano.train_captioner import EXAM_SEED, embed_scenes

HEADS, WIDTH, SLOTS, LENGTH = 3, 8, 6, 4
NEAR = {torch.float32: 2e-6, torch.bfloat16: 4e-3}
"""What rounding may change, beside numbers around 1."""
CAPTIONS = """
import json, sys, torch
from captioner.engine.compiled import kernels_for
from captioner.model import load_model
image_NC = torch.tensor(json.load(sys.stdin))
model = load_model("nano", device="cpu", dtype="float32")
texts = [row[0].text for row in model.candidates(image_NC, model.decoding)]
json.dump({"kernels": kernels_for(image_NC) is not None, "texts": texts}, sys.stdout)
"""


def test_kernels_are_for_a_cpu_and_two_precisions() -> None:
    for dtype, there in ((torch.float32, True), (torch.bfloat16, True), (torch.float16, False)):
        assert (kernels_for(torch.zeros(1, dtype=dtype)) is not None) == there
    assert kernels_for(torch.zeros(1, device="meta")) is None
    assert isinstance(blocks_for(1, 1, torch.zeros(2, 4)), CompiledBlocks)
    assert isinstance(blocks_for(1, 1, torch.zeros(2, 4).double()), TorchBlocks)


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("beams", [1, 3])
@torch.inference_mode()
def test_attention_is_that_of_torch(dtype: torch.dtype, beams: int) -> None:
    """Openings that slots share, beams that read some columns, slots that are left out."""
    sides = [blocks(dtype), blocks(torch.float64)]
    found, plain = (
        [*story(side, kind, beams)]
        for side, kind in zip(sides, (dtype, torch.float64), strict=True)
    )
    assert len(found) == 7
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=NEAR[dtype], atol=NEAR[dtype])


def blocks(dtype: torch.dtype) -> Blocks:
    return blocks_for(1, SLOTS, torch.zeros(HEADS, WIDTH, dtype=dtype))


def story(side: Blocks, dtype: torch.dtype, beams: int) -> "list[Tensor]":
    """The same captions with any blocks: what attention found at each of their steps."""
    generator = torch.Generator().manual_seed(5)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).bfloat16().to(dtype)

    side.grow(LENGTH + 4 * beams)
    row_U, slot_U = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([4, 0, 1, 2, 5])
    found = [side.read(0, drawn(3, LENGTH, 3, HEADS, WIDTH), row_U, slot_U)]
    mask_GKT = torch.zeros(SLOTS, beams, LENGTH + 4 * beams, dtype=dtype)
    mask_GKT[:, :, LENGTH:] = -torch.inf
    alive_G = torch.tensor([True, True, True, False, True, True])
    for step in range(4):
        first = LENGTH + step * beams
        place_GK = (first + torch.arange(beams)).expand(SLOTS, -1).contiguous()
        mask_GKT = mask_GKT[:, torch.arange(beams).roll(step)].contiguous()
        mask_GKT.scatter_(2, place_GK[..., None], 0.0)
        used_G = (first + beams) * alive_G
        qkv = drawn(SLOTS, beams, 3, HEADS, WIDTH)
        out_ND = side.step(0, qkv, place_GK, mask_GKT, used_G)
        assert bool(out_ND.isfinite().all())
        found.append(out_ND[alive_G.repeat_interleave(beams)])
    kept_G = torch.tensor([5, 1])
    side.keep(kept_G, LENGTH + 4 * beams)
    side.grow(beams)
    mask_GKT = torch.nn.functional.pad(mask_GKT[kept_G], (0, beams), value=-torch.inf)
    place_GK = (LENGTH + 4 * beams + torch.arange(beams)).expand(2, -1).contiguous()
    mask_GKT.scatter_(2, place_GK[..., None], 0.0)
    used_G = torch.full((2,), LENGTH + 5 * beams)
    qkv = drawn(2, beams, 3, HEADS, WIDTH)
    found.append(side.step(0, qkv, place_GK, mask_GKT, used_G))
    again = drawn(2, LENGTH, 3, HEADS, WIDTH)
    found.append(side.read(0, again, None, torch.arange(2)))
    return found


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("count", [1, 4, 13])
def test_the_likeliest_tokens_and_the_sum_are_those_of_torch(
    dtype: torch.dtype, count: int
) -> None:
    logits_NV = torch.randn(9, 3001, generator=torch.Generator().manual_seed(1)).to(dtype) * 5
    token_NM, logit_NM, total_N = likeliest(in_parts(logits_NV), count)
    wide_NV = logits_NV.double()
    order_NV = wide_NV.sort(dim=-1, descending=True, stable=True)
    assert torch.equal(token_NM, order_NV.indices[:, :count])
    assert torch.equal(logit_NM, order_NV.values[:, :count].float())
    torch.testing.assert_close(total_N.double(), wide_NV.logsumexp(dim=-1), rtol=1e-6, atol=2e-6)
    plain = likeliest(in_parts(wide_NV), count)
    torch.testing.assert_close(total_N, plain[2].float(), rtol=1e-6, atol=1e-5)
    assert torch.equal(best(in_parts(logits_NV))[0], token_NM[:, 0])


def in_parts(logits_NV: Tensor) -> list[tuple[int, Tensor]]:
    return [(0, logits_NV[:, :1000]), (1000, logits_NV[:, 1000:2990]), (2990, logits_NV[:, 2990:])]


@pytest.mark.parametrize("dtype", NEAR)
def test_what_is_not_finite_spoils_its_own_row_alone(dtype: torch.dtype) -> None:
    logits_NV = torch.zeros(6, 200, dtype=dtype)
    logits_NV[1, 77] = torch.nan
    logits_NV[2, 77] = -torch.nan
    logits_NV[3, 77] = torch.inf
    logits_NV[4] = -torch.inf
    logits_NV[5, ::2] = -torch.inf
    parts = [(0, logits_NV[:, :128]), (128, logits_NV[:, 128:])]
    token_NM, _, total_N = likeliest(parts, 2)
    logprob_N = best(parts)[1]
    fine = torch.tensor([True, False, False, False, False, True])
    assert torch.equal(logprob_N.isfinite(), fine)
    assert total_N[fine].tolist() == pytest.approx([5.298317, 4.605170], abs=1e-5)
    assert token_NM[fine].tolist() == [[0, 1], [1, 3]]
    assert bool(((token_NM >= 0) & (token_NM < 200)).all())


def test_the_number_of_threads_changes_no_bit() -> None:
    logits_NV = torch.randn(33, 999, generator=torch.Generator().manual_seed(2))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            attended = torch.cat(
                [x.flatten() for x in story(blocks(torch.float32), torch.float32, 2)]
            )
            found.append([attended, *likeliest([(0, logits_NV)], 3)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_captions_without_numba_are_the_same() -> None:
    """It is an extra, and much of the world has no use for it."""
    drawn = scenes.sample(24, EXAM_SEED, held_out=True)
    image_NC = torch.stack(list(embed_scenes(drawn, load_encoder("nano", Form()), EXAM_SEED)))
    found, plain = (captions(image_NC, numba) for numba in (True, False))
    assert (found["kernels"], plain["kernels"]) == (True, False)
    assert found["texts"] == plain["texts"]


def captions(image_NC: Tensor, numba: bool) -> dict[str, Any]:
    """What a process with or without Numba says."""
    done = subprocess.run(
        [sys.executable, "-c", CAPTIONS],
        input=json.dumps(image_NC.tolist()),
        env={**os.environ, "NUMBA_DISABLE_JIT": str(int(not numba)), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
