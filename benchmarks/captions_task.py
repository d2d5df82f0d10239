"""The captions that all sides of the decoding benchmarks write, and how a side is told of them."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.gated import Gated, gated_images, save_gated
from benchmarks.settings import Settings, fast_dtype
from benchmarks.side import Side, SideSpec

TINY = Gated(vocabulary=300, width=64, layers=2, positions=64, image_dim=16, prefix_tokens=4)
_LENGTHS = 15
"""How many lengths there are from 6 to 20: counts are multiples of it, so that the mean is 13."""
LEAST_EQUAL = 0.99
"""Part of the captions that float32 leaves equal token by token: two tokens may be near a tie."""


@dataclass(frozen=True, slots=True)
class CaptionsTask:
    """A model and embeddings."""

    settings: Settings
    gated: Gated
    folder: str
    count: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each caption, the stop token included."""
        return gated_images(self.gated, self.count)[1]

    def ours(self, dtype: str = "", decoding: dict[str, Any] | None = None) -> SideSpec:
        """Our side; all embeddings in one call, as a stage hands over a row group.

        Without a `dtype` in the precision that a run chooses here.
        """
        dtype = dtype or fast_dtype()
        chosen = decoding or self.gated.decoding.to_json()
        return self._spec(f"ours {dtype}", "ours_decoding", dtype=dtype, decoding=chosen)

    def generate(self, *dtypes: str, **more: Any) -> SideSpec:
        """transformers' side, ready in these precisions."""
        return self._spec("generate", "generate", dtypes=dtypes, **more)

    def loop(self) -> SideSpec:
        """The side that writes one caption at a time."""
        return self._spec("loop", "plain_loop")

    def limit(self) -> SideSpec:
        """Matrix products."""
        return self._spec("limit", "limit", **({"size": 256} if self.settings.quick else {}))

    def _spec(self, name: str, module: str, **more: Any) -> SideSpec:
        setup = {
            "folder": self.folder,
            "gated": asdict(self.gated),
            "count": self.count,
            "rows_per_call": 0,
            **more,
        }
        return SideSpec(name=name, module=module, setup=setup, threads=self.settings.threads)


@contextmanager
def captions_task(settings: Settings, usual: int = 1020) -> Iterator[CaptionsTask]:
    """The task; gpt2's weights are made once and kept, tiny ones are thrown away."""
    count = -(-settings.items(usual, _LENGTHS) // _LENGTHS) * _LENGTHS
    settings.cache.mkdir(parents=True, exist_ok=True)
    if not settings.quick:
        folder = save_gated(Gated(), settings.cache / "gated-gpt2")
        yield CaptionsTask(settings, Gated(), str(folder), count)
        return
    with tempfile.TemporaryDirectory(dir=settings.cache) as scratch:
        folder = save_gated(TINY, Path(scratch) / "model")
        yield CaptionsTask(settings, TINY, str(folder), count)


@contextmanager
def best_generate(
    task: CaptionsTask, batches: Sequence[int], items: int, **more: Any
) -> Iterator[tuple[Side, dict[str, Any]]]:
    """`generate` as it is fastest on so many items, and the order that says so.

    All precisions and batch sizes are tried in a side that ends, so that the memory of the one
    given is that of its best alone.
    """
    dtypes = ("float32", "bfloat16")
    sizes = [batch for batch in batches if batch <= max(items, batches[0])]
    orders = [{"dtype": dtype, "batch": batch} for dtype in dtypes for batch in sizes]
    with Side(task.generate(*dtypes, **more)) as tried:
        best = min(orders, key=lambda order: tried.run({"items": items, **order})["seconds"])
    with Side(task.generate(str(best["dtype"]), **more)) as alone:
        yield alone, best


def captions_of(side: Side, order: dict[str, Any]) -> list[list[int]]:
    """The tokens of each caption that a side writes for `order`."""
    shown: list[list[int]] = side.run({**order, "show": True})["token_ids"]
    return shown


def same_share(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> float:
    """Part of the captions that are equal token by token."""
    return sum(list(a) == list(b) for a, b in zip(one, other, strict=True)) / len(one)


def equal_share(name: str, ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> float:
    """As `same_share`, of captions that both computed in float32.

    Raises ValueError below `LEAST_EQUAL`: the gate gives the right length to wrong words too.
    """
    share = same_share(ours, theirs)
    if share < LEAST_EQUAL:
        raise ValueError(
            f"only {share:.1%} of {len(ours)} captions are {name}'s in float32, which leaves "
            f"{LEAST_EQUAL:.0%} equal: one of the two computes something else"
        )
    return share


def check_lengths(name: str, written: Sequence[Sequence[int]], lengths: Sequence[int]) -> None:
    """Raise ValueError unless captions have the lengths that were asked for."""
    found = [len(row) for row in written]
    if found != lengths:
        histograms = [sorted(Counter(each).items()) for each in (found, lengths)]
        raise ValueError(f"{name} wrote captions of other lengths: {histograms}")
