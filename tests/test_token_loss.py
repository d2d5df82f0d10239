"""The loss over a large vocabulary: right, right in its gradients, and never held whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import RECIPE, examples, pictures
from tiny_models import tiny_model, tiny_tokenizer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, CohereConfig, GPT2Config

from captioner.activations import fuse_activations, restore_activations
from captioner.checkpoints import MemoryCheckpoints
from captioner.language import LanguageModel
from captioner.losses import caption_loss, clipcap_loss, clipxgpt_loss
from captioner.token_loss import PIECE_BYTES, has_plain_head, head_loss
from captioner.training import train

WIDE = 100_000
"""A vocabulary of which 400 rows of logits come in three pieces."""


class Sizes(TorchDispatchMode):
    """Every tensor that is computed: how large the largest is, and the rows as wide as `width`."""

    def __init__(self, width: int = 0) -> None:
        super().__init__()
        self.width, self.largest, self.rows = width, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.largest = max(self.largest, made.numel() * made.element_size())
            product = func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm)
            if product and made.shape[1] == self.width:
                self.rows += made.shape[0]
        return made


def plain(hidden_ND: Tensor, head: nn.Linear, target_N: Tensor) -> Tensor:
    return functional.cross_entropy(head(hidden_ND).float(), target_N, reduction="sum")


def drawn(
    rows: int, width: int, vocabulary: int, *, bias: bool
) -> tuple[Tensor, nn.Linear, Tensor]:
    torch.manual_seed(rows)
    hidden_ND = torch.randn(rows, width, requires_grad=True)
    return hidden_ND, nn.Linear(width, vocabulary, bias=bias), torch.randint(vocabulary, (rows,))


def gradients(
    loss_of: Callable[[Tensor, nn.Linear, Tensor], Tensor], *given: Any
) -> tuple[float, list[Tensor]]:
    loss = loss_of(*given)
    return loss.item(), list(torch.autograd.grad(loss * 0.3, [given[0], *given[1].parameters()]))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("rows", "vocabulary"), [(50, 97), (400, WIDE)])
def test_loss_and_gradients_are_those_of_the_plain_cross_entropy(
    rows: int, vocabulary: int, bias: bool
) -> None:
    given = drawn(rows, 6, vocabulary, bias=bias)
    wanted, by_hand = gradients(plain, *given)
    got, ours = gradients(head_loss, *given)
    assert got == pytest.approx(wanted, rel=1e-6)
    assert len(ours) == 2 + bias
    for one, other in zip(ours, by_hand, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        assert head_loss(*given).item() == pytest.approx(wanted, rel=1e-6)


def test_in_bfloat16_loss_and_gradients_are_as_near_as_autocasts_own() -> None:
    given = drawn(64, 32, 5000, bias=False)
    wanted, exact = gradients(plain, *given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, ours = gradients(head_loss, *given)
        _, theirs = gradients(plain, *given)
    assert got == pytest.approx(wanted, rel=1e-3)
    for one, other, true in zip(ours, theirs, exact, strict=True):
        assert one.dtype == torch.float32
        assert (one - true).norm() < 1.1 * (other - true).norm() + 1e-6
        assert (one - true).norm() < 0.02 * true.norm()


def test_logits_are_never_held_whole() -> None:
    given = drawn(400, 6, WIDE, bias=True)
    with Sizes() as plainly:
        gradients(plain, *given)
    with Sizes() as in_pieces:
        gradients(head_loss, *given)
    assert plainly.largest >= 400 * WIDE * 4
    assert in_pieces.largest <= PIECE_BYTES


def test_a_frozen_head_gets_no_gradient_and_costs_none() -> None:
    hidden_ND, head, target_N = drawn(50, 6, 97, bias=False)
    head.requires_grad_(requires_grad=False)
    with Sizes(6) as sizes:
        loss = head_loss(hidden_ND, head, target_N)
    assert sizes.rows == 50, "one product for the hidden states, none for the weight"
    (got,) = torch.autograd.grad(loss, [hidden_ND])
    (wanted,) = torch.autograd.grad(plain(hidden_ND, head, target_N), [hidden_ND])
    assert torch.allclose(got, wanted, atol=1e-6)


def test_logits_are_computed_where_a_token_is_foretold_and_nowhere_else(tmp_path: Path) -> None:
    model = tiny_model(seed=2)
    made = examples(tmp_path / "examples", [(e, ["abcdefgh", "a"]) for e, _ in pictures(4)])
    batch = made.batch([(0, 0), (1, 1), (2, 1), (3, 1)])
    assert has_plain_head(model.language)
    for loss_of, rows in ((caption_loss, (8 + 1) + 3 * (1 + 1)), (clipcap_loss, 8 + 3)):
        with torch.no_grad(), Sizes(model.language.vocabulary) as sizes:
            loss_of(model, batch)
        assert sizes.rows == rows


def scaling_language() -> LanguageModel:
    """A family that multiplies its logits by a number."""
    torch.manual_seed(0)
    config = CohereConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        logit_scale=0.25,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    auto: Any = AutoModelForCausalLM
    return LanguageModel(auto.from_config(config), tiny_tokenizer())


@pytest.mark.parametrize("loss_of", [caption_loss, clipcap_loss])
def test_a_family_that_scales_its_logits_is_learnt_with_scaled_logits(
    loss_of: Any, tmp_path: Path
) -> None:
    model = tiny_model(seed=2)
    model.language = model.opening.language = scaling_language()
    model.language.train()
    assert not has_plain_head(model.language)
    assert model.language.training, "looking must leave the model as it was"
    batch = examples(tmp_path / "examples", pictures(1)).batch([(0, 0)])
    loss, count = loss_of(model, batch)
    ids = batch.tokens[0, : batch.lengths[0]]
    inputs = torch.cat([model.prefix(batch.images)[0], model.language.embed(ids)])
    logits = model.language.network(inputs_embeds=inputs[None]).logits[0, 2:]
    end = torch.tensor([model.decoding.stop_ids[0]])
    target = torch.cat([ids, end]) if loss_of is caption_loss else ids
    wanted = functional.cross_entropy(logits[: len(target)], target, reduction="sum")
    assert count.item() == len(target)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_doubled_softmax_has_the_gradients_of_the_plain_way(tmp_path: Path) -> None:
    model = tiny_model(seed=2)
    batch = examples(tmp_path / "examples", pictures(6)).batch([(at, at % 2) for at in range(6)])
    head = model.language.network.get_output_embeddings().weight
    total, _ = clipxgpt_loss(model, batch)
    (got,) = torch.autograd.grad(total, [head])
    step = torch.randn_like(head) * 1e-3
    with torch.no_grad():
        sides = []
        for way in (1, -1):
            head += way * step
            sides.append(clipxgpt_loss(model, batch)[0].item())
            head -= way * step
    assert (got * step).sum().item() == pytest.approx((sides[0] - sides[1]) / 2, rel=0.02)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_captions_of_one_token_teach_a_clipxgpt_nothing(tmp_path: Path, accumulate: int) -> None:
    """Its first token is never learnt: no token is left, and no loss to divide among tokens."""
    model = tiny_model(seed=2)
    made = examples(tmp_path / "examples", [(e, ["a"]) for e, _ in pictures(20)])
    total, count = clipxgpt_loss(model, made.batch([(0, 0), (1, 0)]))
    assert (total.item(), count.item()) == (0.0, 0)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    recipe = RECIPE.changed({"loss": "clipxgpt", "accumulate": accumulate, "weight_decay": 0.0})
    result = train(model, made, recipe, checkpoints=MemoryCheckpoints())
    assert (result.train_loss, result.val_loss) == (0.0, None)
    assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters())


def test_clipxgpt_learns_from_the_batches_that_have_tokens(tmp_path: Path) -> None:
    model = tiny_model(seed=2)
    said = [(e, ["a" if at % 4 else "abc"]) for at, (e, _) in enumerate(pictures(20))]
    recipe = RECIPE.changed({"loss": "clipxgpt", "batch_size": 1})
    made = examples(tmp_path / "examples", said)
    result = train(model, made, recipe, checkpoints=MemoryCheckpoints())
    assert 0 < result.train_loss < 100
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())


def test_gpt2s_activation_is_swapped_for_its_equal_and_put_back() -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        n_embd=32, n_layer=2, n_head=2, vocab_size=300, bos_token_id=None, eos_token_id=None
    )
    auto: Any = AutoModelForCausalLM
    network = auto.from_config(config).eval()
    for weight in network.parameters():
        weight.data.mul_(6)
    ids, before = torch.arange(12)[None], dict(network.named_modules())
    with torch.no_grad():
        slowly = network(ids).logits
        slow = fuse_activations(network)
        assert len(slow) == 2
        assert torch.allclose(network(ids).logits, slowly, rtol=1e-4, atol=1e-5)
    restore_activations(slow)
    assert dict(network.named_modules()) == before
