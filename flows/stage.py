"""One stage over many shards: a bounded window of tasks, every failure kept, none fatal alone."""

import time
from collections.abc import Sequence
from typing import Any

from prefect import Task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from captioner.errors import ModelError
from flows.engines import on_cluster, settled, submit
from flows.progress import stage_begins, stage_ends
from flows.summary import StageSummary, Summary
from storage.errors import ConfigurationError
from storage.receipts import Receipt
from tasks.lanes import close_lanes, work_seconds
from tasks.progress import tick

MAX_TASKS = 64
"""Threads of one flow, each of which waits for a lane; a cluster needs none."""
TASKS: TaskRunner[Any] = ThreadPoolTaskRunner[Any](max_workers=MAX_TASKS)
"""Where every flow's tasks run: threads that wait for lanes."""
WINDOW = 4
"""Tasks submitted for each lane or worker: enough to keep it busy, few enough to hold in memory."""


def run_stage(
    summary: StageSummary,
    unit: Task[Any, Receipt],
    jobs: Sequence[Any],
    *,
    lanes: int,
    pictures: int = 0,
) -> StageSummary:
    """Run `unit` on every job, the oldest awaited when the window is full; fills in `summary`.

    `pictures` is how many there are in all, 0 if nobody knows. A wrong configuration is not a
    shard's failure: it ends the stage at once, and the work in lanes with it, as an interrupt does.
    """
    began, worked = time.perf_counter(), work_seconds()
    stage_begins(summary.name, pictures, len(jobs))
    pending: dict[PrefectFuture[Receipt], Any] = {}
    window = most_pending(lanes, cluster=on_cluster())

    def settle(limit: int) -> None:
        while len(pending) > limit:
            future = next(iter(pending))
            job = pending.pop(future)
            future.wait()
            _take(summary, job.shard, settled(future))

    try:
        for job in jobs:
            pending[submit(unit, job)] = job
            settle(window - 1)
        settle(0)
    except BaseException:
        close_lanes()
        raise
    finally:
        summary.seconds = time.perf_counter() - began
        summary.work_seconds = work_seconds() - worked
        stage_ends(summary.name)
    return summary


def most_pending(lanes: int, *, cluster: bool) -> int:
    """How many tasks wait at once: on this machine each takes a thread, on a cluster none does."""
    window = max(1, WINDOW * lanes)
    return window if cluster else min(window, MAX_TASKS)


def _take(summary: StageSummary, shard: str, result: Any) -> None:
    if isinstance(result, (ConfigurationError, ModelError)):
        raise result
    if not isinstance(result, Receipt):
        summary.failed_shards[shard] = f"{result}"
        return
    if on_cluster():
        tick(summary.name, result.rows)
    summary.rows += result.rows
    for code, count in result.failures.items():
        summary.failures[code] = summary.failures.get(code, 0) + count
    summary.judge(shard, result.rows, sum(result.failures.values()))


class ShardsFailed(Exception):
    """More shards failed than are allowed; `summary` says which and why."""

    def __init__(self, summary: Summary) -> None:
        super().__init__(f"{len(summary.failed_shards)} shards failed")
        self.summary = summary


def outcome(state: State[Any]) -> Summary:
    """What a flow came to, also where it failed; raises what ended it early."""
    result: Any = state.result(raise_on_failure=False)
    if isinstance(result, ShardsFailed):
        return result.summary
    if isinstance(result, BaseException):
        raise result
    summary: Summary = result
    return summary


def final_state(summary: Summary, max_failed_shards: int) -> State[Summary]:
    """Completed, or CompletedWithFailures; raises ShardsFailed if more failed than allowed.

    Either way one table artifact says what was requested, skipped, done and failed.
    """
    rows: list[dict[str, Any]] = [
        {
            "stage": stage.name,
            "shards": stage.requested,
            "skipped": stage.skipped,
            "failed shards": len(stage.failed_shards),
            "pictures": stage.rows,
            "failed pictures": sum(stage.failures.values()),
            "pictures/s": round(stage.rate, 1),
        }
        for stage in summary.stages
    ]
    create_table_artifact(table=rows, key="nightcap-summary", description=summary.run or None)
    failed = len(summary.failed_shards)
    message = f"{failed} shards failed" if failed else "every shard is done"
    summary.tolerated = failed <= max_failed_shards
    if not summary.tolerated:
        raise ShardsFailed(summary)
    name = "CompletedWithFailures" if failed else "Completed"
    return Completed(name=name, message=message, data=summary)
