"""A stage's window of tasks, and what its failures come to: a shard's, or the whole command's."""

from dataclasses import dataclass
from typing import Any

import pytest
from prefect import flow, task
from prefect.client.schemas.objects import State

from captioner.errors import ModelError
from flows.commands import finish
from flows.stage import MAX_TASKS, TASKS, final_state, most_pending, outcome, run_stage
from flows.summary import StageSummary, Summary
from storage.errors import ConfigurationError, ShardError
from storage.receipts import Receipt


@dataclass(frozen=True)
class Job:
    shard: str
    error: Exception | None = None


@task
def unit(job: Job) -> Receipt:
    if job.error:
        raise job.error
    return Receipt(stage="embed", shard=job.shard, fingerprint="0" * 64, rows=5)


@flow(task_runner=TASKS)
def stage(jobs: list[Any], allowed: int) -> State[Summary]:
    summary = StageSummary(name="embed", requested=len(jobs))
    run_stage(summary, unit, jobs, lanes=0)
    return final_state(Summary(command="embed", root="root", stages=[summary]), allowed)


def test_a_cluster_is_kept_busy_however_many_workers_it_has() -> None:
    """On this machine each task that waits takes a thread, so there is an end to them."""
    assert [most_pending(lanes, cluster=True) for lanes in (0, 1, 190)] == [1, 4, 760]
    assert [most_pending(lanes, cluster=False) for lanes in (0, 1, 190)] == [1, 4, MAX_TASKS]


@pytest.mark.parametrize("error", [ConfigurationError("no such root"), ModelError("no such model")])
def test_a_mistake_of_the_user_ends_the_stage_and_is_no_failed_shard(
    error: Exception, prefect_api: None
) -> None:
    with pytest.raises(type(error), match="no such"):
        outcome(stage([Job("0000/0", error), Job("0000/1")], 9, return_state=True))


def test_so_many_failed_shards_as_are_allowed_do_not_fail_the_command(
    prefect_api: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are told aloud all the same."""
    jobs = [Job("0000/0", ShardError("cut short")), Job("0000/1")]
    allowed, refused = (outcome(stage(jobs, most, return_state=True)) for most in (1, 0))
    assert (allowed.ok, refused.ok) == (False, False)
    finish(allowed, as_json=True)
    assert "1 failed shards, as --max-failed-shards allows" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        finish(refused, as_json=True)


def test_pictures_done_before_are_not_given_as_none_where_nobody_counted_them() -> None:
    """A run of which a shard failed is not summed up."""
    begun = StageSummary(name="caption", requested=3, skipped=1, rows=5)
    assert "skipped" not in Summary(command="run", root="root", stages=[begun]).to_json()
    summed = Summary(command="run", root="root", stages=[begun], totals={"rows": 15})
    assert summed.to_json()["skipped"] == 10
    new = StageSummary(name="caption", requested=3, rows=5)
    assert Summary(command="run", root="root", stages=[new]).to_json()["skipped"] == 0
