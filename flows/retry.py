"""Tries failed pictures again, a shard at a time, in lanes: no Prefect server is needed for it."""

from typing import Any

from storage.captions import find_captions, run_settings
from storage.embeddings import embedding_settings, embedding_store
from storage.layout import Root, open_root
from storage.quarantine import write_quarantine
from storage.reading import is_stored, run_space
from storage.retrying import record_attempt, to_retry
from storage.settled import Settled
from tasks.lanes import LaneLost, in_lane, open_lanes
from tasks.options import LaneOptions
from tasks.units.jobs import EmbedJob


def retry_failed(
    root: str, codes: tuple[str, ...], max_attempts: int, run: str, lanes: LaneOptions
) -> dict[str, Any]:
    """Try again, then write down what is still failed: what `--json` prints."""
    place = open_root(root)
    runs = [find_captions(place, run)] if run else list(run_settings(place).kept())
    retried: dict[str, dict[str, Any]] = {}
    with open_lanes(lanes.lanes, lanes.timeout):
        for space in _spaces(place, runs, run):
            store = embedding_store(place, space)
            for retry in list(to_retry(store, codes, max_attempts)):
                job = EmbedJob(
                    root=root,
                    shard=str(retry.shard),
                    space=space.name,
                    encoder=str(space.resolved["encoder"]),
                )
                try:
                    receipt = in_lane("tasks.units.retry:retry_shard", job)
                except LaneLost:
                    receipt = record_attempt(store, retry.shard)
                left = sum(receipt.failures.get(code, 0) for code in codes)
                retried[f"{space.name}/{retry.shard}"] = {"tried": retry.pictures, "left": left}
    tried = sum(one["tried"] for one in retried.values())
    return {
        "command": "retry-failed",
        "ok": True,
        "root": root,
        "codes": list(codes),
        "tried": tried,
        "mended": tried - sum(one["left"] for one in retried.values()),
        "shards": retried,
        "outputs": [write_quarantine(place, settled) for settled in runs],
    }


def _spaces(place: Root, runs: list[Settled], run: str) -> list[Settled]:
    """The embeddings of one run, or all that were made here."""
    if run:
        found = [space for settled in runs if (space := run_space(place, settled))]
        return [space for space in found if not is_stored(space)]
    return list(embedding_settings(place).kept())
