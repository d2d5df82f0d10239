"""Pixels reach the device in order, and where it can copy beside computing, one batch ahead."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from captioner.copies import Coming, Copies, copies_to, pulled_ahead


class ToldCopies:
    """Copies that write down when they began and when they were asked for."""

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead
        self.told: list[str] = []

    def begin(self, pixels: Sequence[Tensor]) -> Coming:
        name = str(int(pixels[0][0, 0, 0]))
        self.told.append(f"begin {name}")

        def ready() -> Tensor:
            self.told.append(f"compute {name}")
            return torch.stack(list(pixels))

        return ready


def batches(count: int) -> list[list[Tensor]]:
    return [[torch.full((3, 2, 2), float(number))] * 2 for number in range(count)]


def begun(copies: Copies, count: int) -> Iterator[Coming]:
    return (copies.begin(pixels) for pixels in batches(count))


def test_the_next_batch_is_on_its_way_before_this_one_is_computed() -> None:
    copies = ToldCopies(ahead=1)
    seen = [coming() for coming in pulled_ahead(begun(copies, 3), copies.ahead)]
    assert [float(pixels_BCHW[0, 0, 0, 0]) for pixels_BCHW in seen] == [0, 1, 2]
    assert copies.told == ["begin 0", "begin 1", "compute 0", "begin 2", "compute 1", "compute 2"]


def test_nothing_is_ahead_where_copying_is_computing() -> None:
    copies = ToldCopies(ahead=0)
    for coming in pulled_ahead(begun(copies, 2), copies.ahead):
        coming()
    assert copies.told == ["begin 0", "compute 0", "begin 1", "compute 1"]


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_all_items_come_whatever_is_ahead(ahead: int) -> None:
    assert list(pulled_ahead(range(3), ahead)) == [0, 1, 2]
    assert list(pulled_ahead([], ahead)) == []


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif("not torch.cuda.is_available()"))],
)
def test_what_arrives_is_what_was_sent(device: str) -> None:
    copies = copies_to(device)
    pictures = list(torch.rand(5, 3, 8, 8))
    here, nothing = copies.begin(pictures)(), copies.begin([])()
    assert here.device.type == device
    assert torch.equal(here.cpu(), torch.stack(pictures))
    assert len(nothing) == 0


def test_every_shard_is_copied_by_the_same_means() -> None:
    """A stream of its own for each would keep the memory of its batches to itself."""
    assert copies_to("cpu") is copies_to("cpu")
