"""The shard flow: freeze what a source holds that is new, and cut it into webdataset tars."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.engines import open_workers
from flows.stage import TASKS, final_state, run_stage
from flows.summary import StageSummary, Summary
from storage.layout import open_root
from storage.sources import open_source
from tasks.ingest import IngestOptions
from tasks.options import LaneOptions
from tasks.outstanding import to_cut
from tasks.retryable import cut_shard
from tasks.units.jobs import ShardJob


@flow(name="shard", task_runner=TASKS)
def shard(
    source: str,
    root: str,
    ingest: IngestOptions = IngestOptions(),
    lanes: LaneOptions = LaneOptions(),
) -> State[Summary]:
    """Cut what is new in `source` into shards under `root`, and what an earlier run left uncut."""
    place = open_root(root)
    collection = open_source(source, exclude=place.url, table=ingest.table)
    todo = to_cut(place, collection, ingest)
    jobs = [
        ShardJob(root=root, shard=str(name), source=source, table=ingest.table)
        for name in todo.shards
    ]
    stage = StageSummary(name="shard", requested=todo.requested, skipped=todo.skipped)
    with open_workers(lanes, root):
        run_stage(stage, cut_shard, jobs, lanes=lanes.lanes, pictures=todo.pictures)
    summary = Summary(command="shard", root=root, stages=[stage])
    return final_state(summary, lanes.max_failed_shards)
