"""Groups of like length: all rows once, and no better cut exists."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import examples, pictures
from tiny_models import tiny_model

from captioner.grouping import SAVING, like_lengths
from captioner.losses import caption_loss


def positions(lengths: list[int], cuts: tuple[int, ...]) -> int:
    edges = [0, *cuts, len(lengths)]
    parts = [sorted(lengths)[a:b] for a, b in itertools.pairwise(edges)]
    return sum(len(part) * part[-1] + SAVING["cpu"] for part in parts)


@pytest.mark.parametrize("seed", range(6))
def test_groups_hold_every_row_once_and_no_three_groups_have_fewer_positions(seed: int) -> None:
    draw = np.random.default_rng(seed)
    lengths = (3 + draw.lognormal(1.5, 0.8, 14).astype(int) * (1 + seed)).tolist()
    groups = like_lengths(torch.tensor(lengths))
    assert sorted(torch.cat(groups).tolist()) == list(range(14))
    ends = np.cumsum([len(rows) for rows in groups])
    every = [cuts for n in range(3) for cuts in itertools.combinations(range(1, 14), n)]
    assert positions(lengths, tuple(ends[:-1])) == min(positions(lengths, c) for c in every)
    longest = [max(lengths[row] for row in rows) for rows in groups]
    assert longest == sorted(longest)


def test_rows_are_not_parted_where_it_saves_little() -> None:
    assert [len(rows) for rows in like_lengths(torch.tensor([9] * 40))] == [40]
    assert [len(rows) for rows in like_lengths(torch.tensor([9] * 20 + [10] * 20))] == [40]
    assert [len(rows) for rows in like_lengths(torch.tensor([9] * 39 + [30]))] == [39, 1]
    assert len(like_lengths(torch.tensor([9] * 39 + [30]), "cuda")) == 1
    assert like_lengths(torch.tensor([5]))[0].tolist() == [0]


def test_grouped_captions_have_loss_and_gradients_of_captions_alone(tmp_path: Path) -> None:
    model = tiny_model(seed=2)
    said = [["a" * (1 + at)] for at in range(12)] + [["b" * 40], ["c" * 38]]
    made = examples(
        tmp_path / "examples",
        [(image, text) for (image, _), text in zip(pictures(14), said, strict=True)],
    )
    rows = [(at, 0) for at in (3, 13, 0, 7, 12, 1, 11)]
    assert len(like_lengths(made.batch(rows).lengths)) > 1
    learning = [p for p in model.parameters() if p.requires_grad]
    total, count = caption_loss(model, made.batch(rows))
    together = torch.autograd.grad(total, learning, allow_unused=True)
    alone = [caption_loss(model, made.batch([row])) for row in rows]
    summed = torch.stack([loss for loss, _ in alone]).sum()
    assert total.item() == pytest.approx(summed.item(), rel=1e-5)
    assert count.item() == sum(n.item() for _, n in alone)
    apart = torch.autograd.grad(summed, learning, allow_unused=True)
    for one, other in zip(together, apart, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))
