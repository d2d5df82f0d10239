"""The units of work as Prefect tasks, retried when the cause may pass; receipts are the record."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from storage.errors import StorageError, StoreUnavailable
from storage.receipts import Receipt
from tasks.lanes import LaneLost, in_lane
from tasks.poison import embed_around_poison
from tasks.units.jobs import CaptionJob, EmbedJob, ShardJob, TrainJob


def transient(_task: Any, _run: Any, state: Any) -> bool:
    """Whether the failure may pass by itself: network, a busy store, a lost worker."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, StorageError):
        return isinstance(error, StoreUnavailable)
    return isinstance(error, (LaneLost, ConnectionError, TimeoutError))


RETRIED: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": transient,
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "task_run_name": "{job.label}",
}


@task(name="cut-shard", **RETRIED)
def cut_shard(job: ShardJob) -> Receipt:
    """Cut one shard from its source."""
    receipt: Receipt = in_lane("tasks.units.shard:cut_shard", job)
    return receipt


@task(name="embed-shard", **RETRIED)
def embed_shard(job: EmbedJob) -> Receipt:
    """Embed one shard's pictures."""
    return embed_around_poison(job)


@task(name="train-model", **RETRIED)
def train_model(job: TrainJob) -> Receipt:
    """Train one model, from its last checkpoint if it has one."""
    receipt: Receipt = in_lane("tasks.units.train:train_model", job)
    return receipt


@task(name="caption-shard", **RETRIED)
def caption_shard(job: CaptionJob) -> Receipt:
    """Caption one shard's embeddings."""
    receipt: Receipt = in_lane("tasks.units.caption:caption_shard", job)
    return receipt
