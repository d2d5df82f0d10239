"""What half precision and 8 bits change in captions: little for a trained model, and measured."""

from functools import cache

import pytest
import torch
from tiny_models import tiny_tokenizer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig

from captioner import scenes
from captioner.configs import Form
from captioner.devices import LEAST_WIDTH, multiplies_bfloat16, resolve_dtype
from captioner.encoders import load_encoder
from captioner.engine.head import HeadedLogits
from captioner.engine.linear import Int8Linear, linear, linear_of
from captioner.errors import ModelError
from captioner.language import LanguageModel
from captioner.model import load_model
from captioner.nano.train_captioner import EXAM_SEED, embed_scenes
from captioner.packed import Activation
from tasks.options import ComputeOptions, EmbedOptions
from tasks.settings.embed import embed_request

SCENES = 200


@cache
def images() -> Tensor:
    drawn = scenes.sample(SCENES, EXAM_SEED, held_out=True)
    return torch.stack(list(embed_scenes(drawn, load_encoder("nano", Form()), EXAM_SEED)))


@torch.inference_mode()
def test_half_precision_picks_the_same_tokens_after_the_same_history() -> None:
    """Teacher-forced: both read what float32 wrote, so that one other token stays one."""
    full, half = (load_model("nano", device="cpu", dtype=d) for d in ("float32", "bfloat16"))
    captions = full.candidates(images(), full.decoding)
    rows = list(range(SCENES))
    slots = [model.opening.slots(SCENES, 1) for model in (full, half)]
    after = [
        slot.enter(model.prefix(images()), rows, rows)
        for slot, model in zip(slots, (full, half), strict=True)
    ]
    same = compared = 0
    for step in range(max(row[0].n_tokens for row in captions)):
        runs_G = torch.tensor([row[0].n_tokens > step for row in captions])
        best, other = (each.best()[0] for each in after)
        same += int((best == other)[runs_G].sum())
        compared += int(runs_G.sum())
        said = [row[0].token_ids for row in captions]
        token_G1 = torch.tensor([[ids[step] if step < len(ids) else 0] for ids in said])
        after = [slot.step(token_G1, [True] * SCENES) for slot in slots]
    assert compared > 10 * SCENES
    assert same >= 0.99 * compared


def test_eight_bits_leave_nearly_all_captions_as_they_are() -> None:
    texts = {
        dtype: [
            row[0].text
            for model in [load_model("nano", device="cpu", dtype=dtype)]
            for row in model.candidates(images(), model.decoding)
        ]
        for dtype in (resolve_dtype("auto", "cpu", LEAST_WIDTH), "int8")
    }
    same = sum(a == b for a, b in zip(*texts.values(), strict=True))
    assert same >= 0.95 * SCENES


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, "int8"])
@pytest.mark.parametrize("peak", [6.0, 14.0, 22.0])
def test_log_probabilities_are_those_of_exact_logits(dtype: torch.dtype | str, peak: float) -> None:
    """An exact logit less a sum of rounded ones would be above 0 where a token is certain."""
    rows, width, vocabulary = 64, 256, 2000
    generator = torch.Generator().manual_seed(0)
    head_VD = torch.randn(vocabulary, width, generator=generator) * 0.14
    hidden_ND = torch.randn(rows, width, generator=generator)
    likely_ND = head_VD[:rows]
    hidden_ND += likely_ND / likely_ND.square().sum(1, keepdim=True) * peak
    int8 = dtype == "int8"
    precision = torch.float32 if isinstance(dtype, str) else dtype
    head_VD, hidden_ND = head_VD.to(precision), hidden_ND.to(precision)
    true_NV = (hidden_ND.double() @ head_VD.double().T).log_softmax(dim=-1)
    parts = [linear(part_CD, int8=int8) for part_CD in head_VD.split(1100)]
    after = HeadedLogits(hidden_ND, parts, head_VD, int8=int8)
    token_N, logprob_N = after.best()
    token_NM, logprob_NM = after.top(5)
    assert torch.equal(token_N, token_NM[:, 0])
    assert bool((logprob_N <= 0).all())
    assert bool((logprob_NM <= 0).all())
    assert torch.allclose(logprob_N, logprob_NM[:, 0], atol=0.004)
    error_NM = logprob_NM.double() - true_NV.gather(1, token_NM)
    assert float(error_NM.square().mean().sqrt()) < 0.004


def test_log_probabilities_of_logits_beyond_measure_are_numbers() -> None:
    """Half precision may have them wrong by more than an exponential can hold."""
    generator = torch.Generator().manual_seed(1)
    head_VD = torch.randn(300, 32, generator=generator).bfloat16()
    hidden_ND = (torch.randn(50, 32, generator=generator) * 3e4).bfloat16()
    after = HeadedLogits(hidden_ND, [linear(head_VD, int8=False)], head_VD)
    for logprob in (after.best()[1], after.top(4)[1]):
        assert bool((logprob <= 0).all())
        assert bool(logprob.isfinite().all())


def test_a_row_in_eight_bits_does_not_depend_on_its_neighbours() -> None:
    """One scale for a whole batch would make captions depend on who stands beside them."""
    generator = torch.Generator().manual_seed(0)
    weight_OI = torch.randn(32, 48, generator=generator).t()  # as GPT-2 keeps its weights
    layer = Int8Linear(weight_OI)
    x_NI = torch.randn(9, 32, generator=generator) * torch.logspace(-3, 3, 9)[:, None]
    alone = torch.cat([layer(row[None]) for row in x_NI])
    torch.testing.assert_close(layer(x_NI), alone, rtol=0, atol=0)
    plain_NO = x_NI @ weight_OI.T
    error_N = (alone - plain_NO).norm(dim=1) / plain_NO.norm(dim=1)
    assert float(error_N.max()) < 0.02


@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_whole_layer_in_eight_bits_is_nearly_the_layer(
    activation: Activation, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    plain = nn.Linear(64, 40).to(dtype)
    with torch.no_grad():
        plain.weight.copy_(torch.randn(40, 64, generator=generator) / 8)
        plain.bias.copy_(torch.randn(40, generator=generator))
    x_NI, plus_NO = (torch.randn(9, n, generator=generator).to(dtype) * 3 for n in (64, 40))
    layer, packed = (linear_of(plain, activation, int8=int8) for int8 in (True, False))
    with torch.inference_mode():
        for found_NO, true_NO in (
            (layer(x_NI), packed(x_NI)),
            (layer(x_NI, plus=plus_NO), packed(x_NI) + plus_NO),
        ):
            assert found_NO.dtype == dtype
            error_N = (found_NO - true_NO).norm(dim=1) / true_NO.norm(dim=1)
            assert float(error_N.max()) < 0.02
        by_torch = layer._plain(x_NI)
    near = 1e-6 if dtype == torch.float32 else 0.01
    torch.testing.assert_close(layer(x_NI), by_torch, rtol=near, atol=near)


def test_what_is_not_finite_stays_so_in_eight_bits_and_spoils_no_other_row() -> None:
    """A caption of numbers that failed must not look like one."""
    generator = torch.Generator().manual_seed(0)
    layer = Int8Linear(torch.randn(40, 64, generator=generator))
    x_NI = torch.randn(5, 64, generator=generator)
    fine_NO = layer(x_NI)
    x_NI[1, 3], x_NI[2, 0], x_NI[3, 9] = torch.nan, torch.inf, -torch.inf
    found_NO = layer(x_NI)
    assert torch.equal(found_NO[[0, 4]], fine_NO[[0, 4]])
    assert not bool(found_NO[1:4].isfinite().any())


def test_eight_bits_are_refused_for_a_network_that_is_no_gpt2() -> None:
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    language = LanguageModel(AutoModelForCausalLM.from_config(config), tokenizer)
    language.int8 = True
    with pytest.raises(ModelError, match="int8 is for GPT-2"):
        language.inference_weights()


def test_half_precision_is_for_wide_networks_on_processors_made_for_it() -> None:
    wide = "bfloat16" if multiplies_bfloat16() else "float32"
    assert resolve_dtype("auto", "cpu", LEAST_WIDTH) == wide
    assert resolve_dtype("auto", "cpu", LEAST_WIDTH - 1) == "float32"
    assert resolve_dtype("float32", "cpu", 4096) == "float32"


def test_8_bits_asked_of_a_whole_run_leave_the_embeddings_what_they_are() -> None:
    """Otherwise captions in 8 bits would need every picture embedded anew."""
    eight = EmbedOptions(compute=ComputeOptions(dtype="int8"))
    assert embed_request(eight) == embed_request(EmbedOptions())
