"""Finds the pictures that kill or hang whatever works on them, by halving their shard.

A lane that is lost may have been unlucky: only a shard that loses its lane twice is searched.
"""

from collections.abc import Callable
from dataclasses import replace

from storage.layout import ShardName, open_root
from storage.receipts import Receipt
from storage.shards import ShardStore
from tasks.lanes import LaneLost, in_lane
from tasks.units.jobs import EmbedJob

TRIES = 2
MOST = 16
"""More such pictures in one shard are no accident of single files: the shard fails."""
UNITS = "tasks.units.embed:"
"""Where `embed_shard` and `probe_pictures` are."""


def embed_around_poison(job: EmbedJob, units: str = UNITS) -> Receipt:
    """The receipt of the shard's embeddings, in which a picture that kills lanes is an error row.

    LaneLost where no single picture is the cause, or too many are.
    """
    for attempt in range(TRIES):
        try:
            return _embed(job, units)
        except LaneLost:
            if attempt == TRIES - 1:
                refused = _culprits(job, units)
                if not refused:
                    raise
    return _embed(replace(job, refused=tuple(sorted(refused.items()))), units)


def _embed(job: EmbedJob, units: str) -> Receipt:
    receipt: Receipt = in_lane(units + "embed_shard", job)
    return receipt


def _culprits(job: EmbedJob, units: str) -> dict[int, str]:
    made = ShardStore(open_root(job.root)).receipt(ShardName.parse(job.shard))

    def probe(start: int, stop: int) -> str:
        try:
            in_lane(units + "probe_pictures", job, start, stop)
        except LaneLost as lost:
            return lost.code
        return ""

    return isolated(made.rows if made else 0, probe)


def isolated(count: int, probe: Callable[[int, int], str]) -> dict[int, str]:
    """Which of `count` items fail alone, with the code of each.

    `probe(start, stop)` gives the code of a part's failure, or nothing. LaneLost if even nothing
    at all fails, for then no item is to blame, or if more than `MOST` do.
    """
    if code := probe(0, 0):
        raise LaneLost(f"the worker process is lost before any picture is opened ({code})")
    found: dict[int, str] = {}
    waiting = [(0, count)]
    while waiting:
        start, stop = waiting.pop()
        code = probe(start, stop) if stop > start else ""
        if code and stop - start == 1:
            found[start] = code
            if len(found) > MOST:
                raise LaneLost(f"more than {MOST} pictures of one shard end the worker process")
        elif code:
            middle = (start + stop) // 2
            waiting += [(middle, stop), (start, middle)]
    return found
