"""Cut one shard: read its planned pictures, judge their headers, commit tar and index."""

from functools import partial

from captioner.errors import PictureError
from captioner.pictures import PictureLimits, inspect
from captioner.resizing import shrunk
from storage.layout import ShardName, open_root
from storage.plan import read_plan
from storage.receipts import Receipt
from storage.shards import HeaderFacts, ShardStore
from storage.sources import open_source
from tasks.progress import tick
from tasks.units.jobs import ShardJob


def cut_shard(job: ShardJob) -> Receipt:
    """The receipt of the shard, cut now unless that is done."""
    place, shard = open_root(job.root), ShardName.parse(job.shard)
    store, plan = ShardStore(place), read_plan(place, shard.batch)
    if plan.kind == "tars":
        receipt = store.adopt(plan, shard.stem, judge)
    else:
        side = plan.options.resize
        source = open_source(job.source, exclude=place.url, table=job.table)
        transform = partial(shrunk, short_side=side) if side else None
        receipt = store.cut(plan, shard.stem, source, judge, transform)
    tick("shard", receipt.rows)
    return receipt


def judge(data: bytes) -> HeaderFacts:
    """What the header says of a picture, or what is wrong with it."""
    try:
        header = inspect(data, PictureLimits())
    except PictureError as error:
        return HeaderFacts(None, None, None, "error", error.code, error.detail)
    return HeaderFacts(header.width, header.height, header.format)
