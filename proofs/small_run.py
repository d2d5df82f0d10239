"""A small collection taken through every stage by the units of work alone: no Prefect, no server.

The model is `size`, which needs no weights: a caption tells its picture's width and height.
"""

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from storage.layout import Root, open_root
from storage.plan import ShardOptions
from storage.run_summary import finalise, unseal
from storage.settled import Settled
from storage.sources import open_source
from tasks.ingest import IngestOptions
from tasks.options import CaptionOptions, ComputeOptions, DecodeOptions, EmbedOptions
from tasks.outstanding import to_cut, uncaptioned, unembedded
from tasks.settings.caption import caption_sources, settle_run
from tasks.settings.embed import settle_embeddings
from tasks.units.caption import caption_shard
from tasks.units.embed import embed_shard
from tasks.units.jobs import CaptionJob, EmbedJob, ShardJob
from tasks.units.shard import cut_shard

ONE_THREAD = ComputeOptions(threads=1)
Begin = Callable[[str], object]
"""Told each unit of work before it begins, as `<stage> <shard>`."""


def draw(folder: Path, count: int) -> Path:
    """`count` pictures of different sizes, and one file that is none."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture = Image.new("RGB", (20 + number % 37, 30 + number // 37), (number % 251, 90, 160))
        picture.save(folder / f"{number:05}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def finish(source: Path, url: str, size: int = 3, decode: DecodeOptions = DecodeOptions()) -> None:
    """Do whatever is left to do until the captions of `source` are sealed under `url`."""
    place = open_root(url)
    space = embed_all(place, source, size, "size")
    caption_all(place, space, CaptionOptions(model="size", compute=ONE_THREAD, decode=decode))


def embed_all(
    place: Root, source: Path, size: int, encoder: str, begin: Begin = lambda _: None
) -> Settled:
    """Cut and embed whatever is left; the settings of the embeddings."""
    url = place.url
    ingest = IngestOptions(shards=ShardOptions(samples_per_shard=size))
    for shard in to_cut(place, open_source(str(source)), ingest).shards:
        begin(f"shard {shard}")
        cut_shard(ShardJob(root=url, shard=str(shard), source=str(source)))
    space = settle_embeddings(place, EmbedOptions(encoder=encoder, compute=ONE_THREAD), 0)
    for shard in unembedded(place, space).shards:
        begin(f"embed {shard}")
        embed_shard(EmbedJob(root=url, shard=str(shard), space=space.name, encoder=encoder))
    return space


def caption_all(
    place: Root, space: Settled, options: CaptionOptions, begin: Begin = lambda _: None
) -> None:
    """Caption whatever is left, and seal the run."""
    run = settle_run(place, options, space, 0)
    model, encoder = caption_sources(place, options, run)
    todo = uncaptioned(place, run, space).shards
    if todo:
        unseal(place, run)
    for shard in todo:
        begin(f"caption {shard}")
        caption_shard(
            CaptionJob(root=place.url, shard=str(shard), run=run.name, model=model, encoder=encoder)
        )
    finalise(place, run)
