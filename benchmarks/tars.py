"""Embeddings from JPEG tars end to end: ours, and open_clip behind webdataset and PIL."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.commands import nightcap
from benchmarks.comparing import Rates, in_turns, versus
from benchmarks.likeness import check_alike
from benchmarks.photographs import tars
from benchmarks.random_clip import RandomClip, random_clip
from benchmarks.results import Row
from benchmarks.settings import Settings
from benchmarks.side import Side, SideSpec


def rows(settings: Settings) -> list[Row]:
    """Two rows: open_clip behind webdataset and PIL in both precisions."""
    with inputs(settings) as (clip, files, root):
        return against_open_clip(settings, clip, files, root)


def each_tar(settings: Settings) -> int:
    """Pictures in one tar."""
    return settings.items(128, 4)


@contextmanager
def inputs(settings: Settings) -> Iterator[tuple[RandomClip, list[Path], str]]:
    """The model, the tars, and a root that has them for shards."""
    each = each_tar(settings)
    files = tars(settings.cache / f"photographs-{each}", 3, each)
    with settings.scratch() as scratch:
        yield random_clip(settings.cache), files, adopted(files, Path(scratch) / "root")


def adopted(files: list[Path], root: Path) -> str:
    """A root whose shards are these tars."""
    pattern = f"{files[0].parent}/{{{files[0].stem}..{files[-1].stem}}}.tar"
    nightcap("shard", pattern, root)
    return str(root)


def against_open_clip(
    settings: Settings, clip: RandomClip, files: list[Path], root: str
) -> list[Row]:
    """Both precisions of the peer."""
    specs = [our_spec(settings, clip, root, dtype) for dtype in ("auto", "bfloat16")]
    specs += [
        SideSpec(
            name=f"open_clip {dtype}",
            module="open_clip_tars",
            setup={"checkpoint": str(clip.checkpoint), "dtype": dtype},
            threads=settings.threads,
        )
        for dtype in ("float32", "bfloat16")
    ]
    with ExitStack() as stack:
        ours, ours16, plain, plain16 = (stack.enter_context(Side(spec)) for spec in specs)
        order = {"tars": [str(path) for path in files], "workers": settings.threads}
        turns = {"ours": ours, "ours16": ours16, "plain": plain, "plain16": plain16}
        scratch = Path(stack.enter_context(settings.scratch()))
        made = {name: _saved(side, order, scratch / name) for name, side in turns.items()}
        least = check_alike("open_clip", made["ours"], made["plain"], ours.facts["dtype"])
        least16 = check_alike("open_clip", made["ours16"], made["plain16"], "bfloat16")
        runs = {name: _run(side, order) for name, side in turns.items()}
        rates = in_turns(runs, settings.rounds, warm_ups=0)
        wds = "embedding JPEG tars, against open_clip + webdataset + PIL"
        cosine = "least cosine, the mean of all pictures taken off"
        workers = f"the peer decodes in {settings.threads} workers"
        return [
            tars_row(
                f"{wds}, default dtypes",
                2.2,
                (rates["ours"], ours),
                (rates["plain"], plain),
                note=f"ours in {ours.facts['dtype']}; {workers}; {cosine}: {least:.4f}",
            ),
            tars_row(
                f"{wds}, bf16",
                1.05,
                (rates["ours16"], ours16),
                (rates["plain16"], plain16),
                note=f"{cosine}: {least16:.4f}",
            ),
        ]


def our_spec(settings: Settings, clip: RandomClip, root: str, dtype: str) -> SideSpec:
    """The embed stage's work in this precision."""
    setup = {"root": root, "encoder": str(clip.folder), "dtype": dtype}
    return SideSpec(name="ours", module="ours_tars", setup=setup, threads=settings.threads)


def _saved(side: Side, order: dict[str, Any], path: Path) -> dict[str, Any]:
    """The embeddings of an order, which warms the side up."""
    side.run({**order, "save": str(path)})
    saved: dict[str, Any] = torch.load(path, weights_only=True)
    return saved


def _run(side: Side, order: dict[str, Any]) -> Any:
    return lambda: side.run(order)


def tars_row(
    name: str, aim: float, mine: tuple[Rates, Side], others: tuple[Rates, Side], **rest: Any
) -> Row:
    """A row of pictures a second; `rest` may name another benchmark than `tars`."""
    return versus(
        mine[0],
        others[0],
        aim,
        name=name,
        unit="/s",
        peak_mib=mine[1].peak_mib,
        peer_peak_mib=others[1].peak_mib,
        **{"benchmark": "tars", **rest},
    )
