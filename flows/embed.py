"""The embed flow: an embedding for every picture of every shard that has none yet."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.engines import open_workers
from flows.stage import TASKS, final_state, run_stage
from flows.summary import StageSummary, Summary
from storage.layout import open_root
from tasks.lanes import in_lane
from tasks.options import EmbedOptions, LaneOptions
from tasks.outstanding import unembedded
from tasks.retryable import embed_shard
from tasks.settings.embed import find_embeddings
from tasks.units.jobs import EmbedJob


@flow(name="embed", task_runner=TASKS)
def embed(
    root: str,
    options: EmbedOptions = EmbedOptions(),
    lanes: LaneOptions = LaneOptions(),
) -> State[Summary]:
    """Embed every shard under `root` that has no embeddings of this configuration."""
    place = open_root(root)
    with open_workers(lanes, root):
        settled = find_embeddings(place, options) or in_lane(
            "tasks.settings.embed:settle_embeddings", place, options, lanes.lanes
        )
        todo = unembedded(place, settled)
        jobs = [
            EmbedJob(root=root, shard=str(name), space=settled.name, encoder=options.encoder)
            for name in todo.shards
        ]
        stage = StageSummary(name="embed", requested=todo.requested, skipped=todo.skipped)
        run_stage(stage, embed_shard, jobs, lanes=lanes.lanes, pictures=todo.pictures)
    summary = Summary(
        command="embed", root=root, stages=[stage], outputs=[place.space(settled.name)]
    )
    return final_state(summary, lanes.max_failed_shards)
