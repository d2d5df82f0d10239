"""The next thing made in a thread while the caller works on the one before."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Made = TypeVar("Made")


def made_ahead(make: Callable[[int], Made], numbers: Iterable[int]) -> Generator[Made, None, None]:
    """`make(number)` of each number, in order; at most one is made before it is asked for.

    What `make` raises is raised here. Close the iterator to leave early.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as maker:
        waiting = None
        for number in numbers:
            coming = maker.submit(make, number)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()
