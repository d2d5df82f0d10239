"""Work done ahead by a few threads, its results in the order of its inputs."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Input = TypeVar("Input")
Output = TypeVar("Output")


def ahead(
    work: Callable[[Input], Output], inputs: Iterable[Input], threads: int
) -> Iterator[Output]:
    """`work` of each input, at most twice `threads` of them ahead; 0 threads: none ahead.

    An exception of `work` is raised in its turn. It pays where reads wait for a network.
    """
    if threads == 0:
        yield from map(work, inputs)
        return
    waiting: deque[Future[Output]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for one in inputs:
            waiting.append(pool.submit(work, one))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
