"""Pixels on their way to the device: one batch is copied while the one before is computed.

Shapes:  B batch   H height   W width
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Coming = Callable[[], Tensor]
"""The pixels_BCHW, as soon as whatever the device does next may read them."""


class Copies(Protocol):
    """How pixels get to a device."""

    ahead: int
    """How many batches may be on their way while another is computed."""

    def begin(self, pixels: Sequence[Tensor]) -> Coming:
        """Begin to copy pictures pixels_CHW of one shape; none of them give an empty tensor."""


class HostCopies:
    """For the CPU, and for devices that copy when they compute: a batch in one piece, in time."""

    ahead = 0

    def begin(self, pixels: Sequence[Tensor]) -> Coming:
        """Nothing is done before the pixels are asked for."""
        return lambda: torch.stack(list(pixels)) if pixels else torch.empty(0)


class CudaCopies:
    """From pinned memory, on a stream of their own, beside the computing. Not run on a GPU yet."""

    ahead = 1

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def begin(self, pixels: Sequence[Tensor]) -> Coming:
        """What finds no room on the device stays in pinned memory: the encoder halves it then."""
        if not pixels:
            return lambda: torch.empty(0)
        shape = (len(pixels), *pixels[0].shape)
        pinned_BCHW = torch.empty(shape, dtype=pixels[0].dtype, pin_memory=True)
        torch.stack(list(pixels), out=pinned_BCHW)
        try:
            with torch.cuda.stream(self._stream):
                there_BCHW = pinned_BCHW.to("cuda", non_blocking=True)
                copied = self._stream.record_event()
        except torch.OutOfMemoryError:
            return lambda: pinned_BCHW

        def ready() -> Tensor:
            computing = torch.cuda.current_stream()
            computing.wait_event(copied)
            there_BCHW.record_stream(computing)  # its memory is not reused before that is done
            return there_BCHW

        return ready


@cache
def copies_to(device: str) -> Copies:
    """The quickest way to a device of that kind, the same for all that is copied there."""
    return CudaCopies() if device == "cuda" else HostCopies()


def pulled_ahead(items: Iterable[T], ahead: int) -> Iterator[T]:
    """`items` in order, each given when `ahead` more have been pulled, or no more are left."""
    pulled: deque[T] = deque()
    for item in items:
        pulled.append(item)
        if len(pulled) > ahead:
            yield pulled.popleft()
    yield from pulled
