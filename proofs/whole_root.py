"""A small root that holds one of everything: batches, foreign tars, spaces, a model, sealed runs.

One shard of embeddings was tried again, and edits of one run were applied. Made with the
units of work alone, so that no Prefect server is needed.
"""

from dataclasses import replace
from pathlib import Path

from PIL import Image

from captioner import scenes
from storage.captions import caption_store
from storage.edits import Edit, EditLog
from storage.edits_apply import apply_edits
from storage.layout import Root, ShardName, open_root
from storage.models import ModelName
from storage.plan import ShardOptions
from storage.run_summary import finalise
from storage.settled import Settled
from storage.sources import open_source
from tasks.ingest import IngestOptions
from tasks.options import CaptionOptions, ComputeOptions, EmbedOptions, TrainOptions
from tasks.outstanding import to_cut, uncaptioned, unembedded
from tasks.settings.caption import caption_sources, settle_run
from tasks.settings.embed import settle_embeddings
from tasks.settings.train import settle_training
from tasks.units.caption import caption_shard
from tasks.units.embed import embed_shard
from tasks.units.jobs import CaptionJob, EmbedJob, ShardJob, TrainJob
from tasks.units.retry import retry_shard
from tasks.units.shard import cut_shard
from tasks.units.train import train_model

ONE_THREAD = ComputeOptions(threads=1)


def make_whole_root(folder: Path, pictures: int = 24) -> Path:
    """Draw pictures into `folder/pictures` and make everything of them in `folder/root`."""
    url = str(folder / "root")
    place = open_root(url)
    _draw(folder / "pictures", pictures)
    _cut(place, str(folder / "pictures"), pictures // 3)
    _draw(folder / "pictures", pictures + 5)
    _cut(place, str(folder / "pictures"), pictures // 3)
    _foreign(place, folder)
    nano = _retried(place, "nano")
    size = _embed(place, "size")
    options = TrainOptions(out="small", steps=2, compute=ONE_THREAD)
    trained = settle_training(place, options, nano, 0)
    train_model(TrainJob(root=url, name="small", version=trained.name))
    _caption(place, str(ModelName("small", trained.name)), nano)
    _review(place, _caption(place, "size", size))
    return folder / "root"


def _draw(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, scene in enumerate(scenes.sample(count, 3)):
        path = folder / f"{number:03}.png"
        if not path.exists():
            scenes.draw(scene, size=64, seed=number).save(path)
            path.with_suffix(".txt").write_text(f"a drawn scene, number {number}\n")
    (folder / "broken.jpg").write_bytes(b"no picture")


def _cut(place: Root, source: str, size: int) -> None:
    ingest = IngestOptions(shards=ShardOptions(samples_per_shard=size))
    for shard in to_cut(place, open_source(source, exclude=place.url), ingest).shards:
        cut_shard(ShardJob(root=place.url, shard=str(shard), source=source))


def _foreign(place: Root, folder: Path) -> None:
    """A tar of others: what another root made of a few pictures."""
    others = folder / "others"
    (others / "pictures").mkdir(parents=True, exist_ok=True)
    for number in range(4):
        picture = Image.new("RGB", (40 + number, 50), (90, 60 * number, 20))
        picture.save(others / "pictures" / f"{number}.png")
    _cut(open_root(str(others / "root")), str(others / "pictures"), 10)
    _cut(place, str(others / "root" / "shards" / "0000" / "*.tar"), 10)


def _embed(place: Root, encoder: str) -> Settled:
    space = settle_embeddings(place, EmbedOptions(encoder=encoder, compute=ONE_THREAD), 0)
    for shard in unembedded(place, space).shards:
        embed_shard(EmbedJob(root=place.url, shard=str(shard), space=space.name, encoder=encoder))
    return space


def _retried(place: Root, encoder: str) -> Settled:
    """Embeddings of which one shard lost a picture with its lane, and got it the second time."""
    space = settle_embeddings(place, EmbedOptions(encoder=encoder, compute=ONE_THREAD), 0)
    job = EmbedJob(root=place.url, shard="0001/00000", space=space.name, encoder=encoder)
    embed_shard(replace(job, refused=((0, "worker_killed"),)))
    retry_shard(job)
    return _embed(place, encoder)


def _review(place: Root, run: Settled) -> None:
    """Captions written by hand in two batches, and a rejection that was taken back, all applied."""
    store, log = caption_store(place, run), EditLog(place, run.name)
    shards = ShardName("0000", "00001"), ShardName("0001", "00000")
    first, second = (next(store.read(shard)).to_pylist() for shard in shards)
    decisions = [(first[0], "edit", ""), (first[1], "reject", "")]
    decisions += [(first[1], "undo", f"{1:032x}"), (second[0], "edit", "")]
    log.add(
        [
            Edit(
                id=f"{number:032x}",
                shard=row["shard"],
                key=row["key"],
                action=action,
                caption="written by hand" if action == "edit" else "",
                undoes=undoes,
                by="a reviewer",
                at=log.now(),
            )
            for number, (row, action, undoes) in enumerate(decisions)
        ]
    )
    apply_edits(place.url, run.name)


def _caption(place: Root, model: str, space: Settled) -> Settled:
    options = CaptionOptions(model=model, compute=ONE_THREAD)
    run = settle_run(place, options, space, 0)
    weights, encoder = caption_sources(place, options, run)
    for shard in uncaptioned(place, run, space).shards:
        caption_shard(
            CaptionJob(
                root=place.url, shard=str(shard), run=run.name, model=weights, encoder=encoder
            )
        )
    finalise(place, run)
    return run
