"""What is left to do in each stage, told from plans, receipts and listings alone.

A stage's output counts only if its receipt was made from what its inputs are now: one that was
made from others, or whose files were touched since and no longer match, is stale and made again.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from storage.captions import caption_store
from storage.embeddings import embedding_store
from storage.layout import Root, ShardName
from storage.outputs import OutputStore
from storage.plan import Plan, plan_new, read_plans, unfinished
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
    return _outstanding(root, embedding_store(root, space), _Shards(root))


def uncaptioned(root: Root, run: Settled, space: Settled) -> Outstanding:
    """Shards that are embedded with `space` and have no captions of `run`."""
    upstream = _Embedded(root, embedding_store(root, space))
    return _outstanding(root, caption_store(root, run), upstream)


class _Shards:
    """Cut shards, as what the embed stage is made from."""

    def __init__(self, root: Root) -> None:
        self.store = ShardStore(root)

    def batches(self) -> Iterable[str]:
        return self.store.root.batches()

    def made(self, batch: str) -> Mapping[str, Recorded]:
        return self.store.receipts(batch)

    def inputs(self, record: Recorded) -> tuple[FileFacts, ...]:
        return self.store.inputs_from(record.receipt)


class _Embedded:
    """Embedded shards, as what the caption stage is made from."""

    def __init__(self, root: Root, store: OutputStore) -> None:
        self.shards = _Shards(root)
        self.store = store
        self._cut: dict[str, Mapping[str, Recorded]] = {}

    def batches(self) -> Iterable[str]:
        return self.store.batches()

    def made(self, batch: str) -> Mapping[str, Recorded]:
        return self.store.receipts(batch)

    def inputs(self, record: Recorded) -> tuple[FileFacts, ...]:
        return (*record.receipt.files, *record.receipt.inputs)


def _outstanding(root: Root, store: OutputStore, upstream: _Shards | _Embedded) -> Outstanding:
    found = Outstanding()
    looked = _Looked(root)
    for batch in upstream.batches():
        done = store.receipts(batch)
        for stem, made in sorted(upstream.made(batch).items()):
            shard = ShardName(batch, stem)
            inputs = upstream.inputs(made)
            why = _why(done.get(stem), inputs, looked)
            found.want(shard, made.receipt.rows, why)
    return found


def _why(record: Recorded | None, inputs: tuple[FileFacts, ...], looked: "_Looked") -> str | None:
    """Why a shard is to do: empty if it was never done, None if it is done."""
    if record is None:
        return ""
    if record.receipt.inputs != inputs:
        return "made from other inputs"
    touched = looked.changed(record.receipt, record.changed)
    return f"{touched} is not what it was" if touched else None


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
