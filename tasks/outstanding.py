"""What is left to do in each stage, told from plans, receipts and listings alone.

A stage's output counts only if its receipt was made from what its inputs are now: one that was
made from others, or whose files were touched since and no longer match, is stale and made again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from storage.captions import caption_store
from storage.embedded import Offered
from storage.embeddings import embedding_store
from storage.layout import Root, ShardName
from storage.outputs import OutputStore
from storage.plan import Plan, plan_new, read_plans, unfinished
from storage.reading import embedding_source
from storage.receipts import FileFacts, Receipt, Recorded, unchanged
from storage.settled import Settled
from storage.shards import ShardStore
from storage.sources import Source
from storage.urls import Stat, listing
from tasks.ingest import IngestOptions


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

    @property
    def skipped(self) -> int:
        """Shards that are done."""
        return self.requested - len(self.shards)

    def want(self, shard: ShardName, pictures: int, why: str | None) -> None:
        """Count a shard: to do if there is a reason, an empty one for plainly missing."""
        self.requested += 1
        if why is None:
            return
        self.shards.append(shard)
        self.pictures += pictures
        if why:
            self.stale[shard] = why


def to_cut(root: Root, source: Source, ingest: IngestOptions) -> Outstanding:
    """Shards of `source` without a receipt, after freezing a plan for what is new."""
    plans = unfinished(root, source)
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


def _cut(shards: ShardStore) -> Iterator[Offered]:
    """Cut shards, as what the embed stage is made from."""
    for batch in shards.root.batches():
        for stem, made in sorted(shards.receipts(batch).items()):
            inputs = shards.inputs_from(made.receipt)
            yield Offered(ShardName(batch, stem), made.receipt.rows, inputs)


def _outstanding(root: Root, store: OutputStore, upstream: Iterable[Offered]) -> Outstanding:
    found = Outstanding()
    looked = _Looked(root)
    for batch, shards in groupby(upstream, key=lambda shard: shard.name.batch):
        done = store.receipts(batch)
        for shard in shards:
            why = _why(done.get(shard.name.stem), shard.inputs, looked)
            found.want(shard.name, shard.rows, why)
    return found


def _why(record: Recorded | None, inputs: tuple[FileFacts, ...], looked: "_Looked") -> str | None:
    """Why a shard is to do: empty if it was never done, None if it is done."""
    if record is None:
        return ""
    if not _same(record.receipt.inputs, inputs):
        return "made from other inputs"
    touched = looked.changed(record.receipt, record.changed)
    return f"{touched} is not what it was" if touched else None


def _same(named: tuple[FileFacts, ...], now: tuple[FileFacts, ...]) -> bool:
    """Whether a receipt names what is offered; what has no hash yet is looked at afterwards."""
    return len(named) == len(now) and all(
        there == here if here.sha256 else there.url == here.url
        for there, here in zip(named, now, strict=True)
    )


class _Looked:
    """Files as the store lists them, one listing a folder."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._folders: dict[str, dict[str, Stat]] = {}

    def changed(self, receipt: Receipt, since: float) -> str:
        """Name of the first file of `receipt` that is not as it says; empty if all are."""
        for facts in _files(receipt):
            url = self._root.absolute(facts.url)
            now = self._stat(url)
            if now is None or not unchanged(facts, url, since, now):
                return facts.url
        return ""

    def _stat(self, url: str) -> Stat | None:
        folder, _, name = url.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = listing(folder)
        return self._folders[folder].get(name)


def _files(receipt: Receipt) -> Iterator[FileFacts]:
    yield from receipt.files
    yield from receipt.inputs


def _uncut(root: Root, plans: Iterable[Plan]) -> Outstanding:
    found = Outstanding()
    store = ShardStore(root)
    for plan in plans:
        done = store.made(plan)
        for stem in plan.shards():
            found.want(plan.shard(stem), 0, None if stem in done else "")
        missing = sum(1 for name in found.shards if name.batch == plan.batch)
        found.pictures += missing * plan.n_rows // max(1, plan.n_shards)
    return found
