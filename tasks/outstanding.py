"""What is left to do in each stage, told from plans, receipts and listings alone.

A stage's output counts only if its receipt was made from what its inputs are now: one that was
made from others, or whose files were touched since and no longer match, is stale and made again.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from storage.captions import caption_store, run_settings
from storage.embedded import Offered
from storage.embeddings import embedding_store
from storage.layout import Root, ShardName
from storage.made import Look, listed, receipts_of, touched
from storage.outputs import OutputStore
from storage.plan import Plan, plan_new, read_plans, unfinished
from storage.plan_file import shard_fingerprint
from storage.reading import embedding_source
from storage.receipts import Recorded, same_inputs
from storage.settled import Settled
from storage.shards import ShardStore
from storage.sources import Source
from tasks.ingest import IngestOptions


@dataclass(slots=True, kw_only=True)
class BatchStanding:
    """One batch in one stage."""

    shards: int = 0
    done: int = 0
    stale: int = 0
    failed: int = 0
    """Done shards in which a picture failed."""
    failures: Counter[str] = field(default_factory=Counter)
    """Pictures that failed in done shards, by error code."""

    @property
    def missing(self) -> int:
        """Shards that were never done."""
        return self.shards - self.done - self.stale


@dataclass(slots=True, kw_only=True)
class Outstanding:
    """The shards of one stage that are still to be done."""

    requested: int = 0
    """Shards in all."""
    shards: list[ShardName] = field(default_factory=list)
    """Those to do, the stale ones too."""
    stale: dict[ShardName, str] = field(default_factory=dict)
    """Those that were done from something else, and why that no longer counts."""
    pictures: int = 0
    """Rows of the shards to do; 0 where nobody knows yet."""
    batches: dict[str, BatchStanding] = field(default_factory=dict)
    """How each batch stands, in order."""

    @property
    def skipped(self) -> int:
        """Shards that are done."""
        return self.requested - len(self.shards)

    def want(
        self, shard: ShardName, pictures: int, why: str | None, record: Recorded | None
    ) -> None:
        """Count a shard: to do if there is a reason, an empty one for plainly missing."""
        self.requested += 1
        batch = self.batches.setdefault(shard.batch, BatchStanding())
        batch.shards += 1
        if why is None and record:
            batch.done += 1
            batch.failed += bool(record.receipt.failures)
            batch.failures.update(record.receipt.failures)
        if why is None:
            return
        batch.stale += bool(why)
        self.shards.append(shard)
        self.pictures += pictures
        if why:
            self.stale[shard] = why


def to_cut(root: Root, source: Source, ingest: IngestOptions) -> Outstanding:
    """Shards of `source` without a receipt, after freezing a plan for what is new."""
    plans = unfinished(root, source, ingest.shards)
    if ingest.look and (plan := plan_new(root, source, ingest.shards, ingest.batch or None)):
        plans.append(plan)
    return _uncut(root, plans)


def cut_standing(root: Root) -> Outstanding:
    """All shards of all plans, whatever their source."""
    return _uncut(root, read_plans(root))


def unembedded(root: Root, space: Settled) -> Outstanding:
    """Shards that are cut and have no embeddings made with `space`."""
    return _outstanding(root, embedding_store(root, space), _cut(ShardStore(root)))


def uncaptioned(root: Root, run: Settled, space: Settled) -> Outstanding:
    """Shards that are embedded with `space` and have no captions of `run`."""
    return _outstanding(root, caption_store(root, run), embedding_source(root, space).offered())


def captioned_before(root: Root, run: Settled, shards: Iterable[ShardName]) -> int:
    """Pictures in `shards` that any other run of this root has rows of."""
    wanted = set(shards)
    rows: dict[ShardName, int] = {}
    others = (other for other in run_settings(root).kept() if other.name != run.name)
    for store in (caption_store(root, other) for other in others):
        for batch in store.batches():
            for stem, made in store.receipts(batch).items():
                rows[ShardName(batch, stem)] = made.receipt.rows
    return sum(count for shard, count in rows.items() if shard in wanted)


def _cut(shards: ShardStore) -> Iterator[Offered]:
    """Cut shards, as what the embed stage is made from."""
    for batch in shards.root.batches():
        for stem, made in sorted(shards.receipts(batch).items()):
            inputs = shards.inputs_from(made)
            yield Offered(ShardName(batch, stem), made.receipt.rows, inputs)


def _outstanding(root: Root, store: OutputStore, upstream: Iterable[Offered]) -> Outstanding:
    found = Outstanding()
    look = listed()
    for batch, shards in groupby(upstream, key=lambda shard: shard.name.batch):
        done = store.receipts(batch)
        for shard in shards:
            record = done.get(shard.name.stem)
            found.want(shard.name, shard.rows, _why(root, record, shard, look), record)
    return found


def _why(root: Root, record: Recorded | None, shard: Offered, look: Look) -> str | None:
    """Why a shard is to do: empty if it was never done, None if it is done."""
    if record is None:
        return ""
    if not same_inputs(record.receipt.inputs, shard.inputs):
        return "made from other inputs"
    file = touched(root, record, look)
    return f"{file} is not what it was" if file else None


def _uncut(root: Root, plans: Iterable[Plan]) -> Outstanding:
    found = Outstanding()
    for plan in plans:
        done, mark, look = receipts_of(plan.folder), shard_fingerprint(plan), listed()
        for stem in plan.shards():
            record = done.get(stem)
            found.want(plan.shard(stem), 0, _why_cut(root, record, mark, look), record)
        missing = sum(1 for name in found.shards if name.batch == plan.batch)
        found.pictures += missing * plan.n_rows // max(1, plan.n_shards)
    return found


def _why_cut(root: Root, record: Recorded | None, mark: str, look: Look) -> str | None:
    """As `_why`, of a shard that is cut from its plan."""
    if record is None:
        return ""
    if record.receipt.fingerprint != mark:
        return "cut from another plan"
    file = touched(root, record, look)
    return f"{file} is not what it was" if file else None
