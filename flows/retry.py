"""Tries failed pictures again, a shard at a time, in lanes: no Prefect server is needed for it."""

from dataclasses import dataclass, field
from typing import Any

from storage.captions import caption_store, find_captions, run_settings
from storage.embeddings import embedding_settings, embedding_store
from storage.layout import Root, open_root
from storage.outputs import OutputStore
from storage.quarantine import write_quarantine
from storage.reading import is_stored, run_space
from storage.retrying import Retry, failed_here, failures_of, record_attempt, to_retry
from storage.run_summary import finalise, is_sealed, unseal
from storage.settled import Settled
from tasks.lanes import LaneLost, in_lane, open_lanes
from tasks.options import LaneOptions
from tasks.outstanding import uncaptioned
from tasks.settings.caption import sources_of
from tasks.units.jobs import CaptionJob, EmbedJob


def retry_failed(
    root: str, codes: tuple[str, ...], max_attempts: int, run: str, lanes: LaneOptions
) -> dict[str, Any]:
    """Try again, then write down what is still failed: what `--json` prints.

    First embeddings, then those captions that failed by themselves; captions whose embeddings
    were mended are the next run's.
    """
    place = open_root(root)
    runs = [find_captions(place, run)] if run else list(run_settings(place).kept())
    again = _Again(place, codes, max_attempts)
    with open_lanes(lanes.lanes, lanes.timeout):
        for space in _spaces(place, runs, run):
            again.embed(space)
        for settled in runs:
            again.caption(settled)
    tried = sum(one["tried"] for one in again.retried.values())
    return {
        "command": "retry-failed",
        "ok": True,
        "root": root,
        "codes": list(codes),
        "tried": tried,
        "mended": tried - sum(one["left"] for one in again.retried.values()),
        "shards": again.retried,
        "outputs": [write_quarantine(place, settled) for settled in runs],
    }


@dataclass(slots=True)
class _Again:
    """What is tried again, and what came of it."""

    root: Root
    codes: tuple[str, ...]
    max_attempts: int
    retried: dict[str, dict[str, int]] = field(default_factory=dict)
    """By `<space or run>/<shard>`: pictures tried, and those still failed."""

    def embed(self, space: Settled) -> None:
        """Embed shards of a space once more."""
        store = embedding_store(self.root, space)
        for retry in list(to_retry(store, self.codes, self.max_attempts)):
            job = EmbedJob(
                root=self.root.url,
                shard=str(retry.shard),
                space=space.name,
                encoder=str(space.resolved["encoder"]),
            )
            self._try(space, store, retry, "retry_shard", job)

    def caption(self, settled: Settled) -> None:
        """Caption shards of a run once more in which a caption failed on a sound embedding."""
        space = run_space(self.root, settled)
        if space is None:
            return
        store = caption_store(self.root, settled)
        below = {} if is_stored(space) else failures_of(embedding_store(self.root, space))
        outdated = set(uncaptioned(self.root, settled, space).shards)
        for retry in list(to_retry(store, self.codes, self.max_attempts, below)):
            if retry.shard in outdated:
                continue
            model, encoder = sources_of(self.root, settled)
            job = CaptionJob(
                root=self.root.url,
                shard=str(retry.shard),
                run=settled.name,
                model=model,
                encoder=encoder,
            )
            sealed = is_sealed(self.root, settled)
            unseal(self.root, settled)
            self._try(settled, store, retry, "recaption_shard", job)
            if sealed:
                finalise(self.root, settled)

    def _try(
        self,
        settled: Settled,
        store: OutputStore,
        retry: Retry,
        unit: str,
        job: EmbedJob | CaptionJob,
    ) -> None:
        try:
            receipt = in_lane(f"tasks.units.retry:{unit}", job)
        except LaneLost:
            receipt = record_attempt(store, retry.shard)
        left = failed_here(receipt.failures, self.codes, retry.below)
        self.retried[f"{settled.name}/{retry.shard}"] = {"tried": retry.pictures, "left": left}


def _spaces(place: Root, runs: list[Settled], run: str) -> list[Settled]:
    """The embeddings of one run, or all that were made here."""
    if run:
        found = [space for settled in runs if (space := run_space(place, settled))]
        return [space for space in found if not is_stored(space)]
    return list(embedding_settings(place).kept())
