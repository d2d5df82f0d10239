"""The caption flow: captions and scores for every embedded shard that has none in this run."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.stage import TASKS, final_state, run_stage
from flows.summary import StageSummary, Summary
from storage.layout import open_root
from storage.run_summary import finalise, samples, unseal
from tasks.lanes import in_lane, open_lanes
from tasks.options import CaptionOptions, EmbedOptions, LaneOptions
from tasks.outstanding import uncaptioned
from tasks.retryable import caption_shard
from tasks.settings.caption import caption_sources, find_run
from tasks.spaces import caption_space
from tasks.units.jobs import CaptionJob


@flow(name="caption", task_runner=TASKS)
def caption(
    root: str,
    options: CaptionOptions = CaptionOptions(),
    embeddings: EmbedOptions = EmbedOptions(),
    lanes: LaneOptions = LaneOptions(),
) -> State[Summary]:
    """Caption every shard whose embeddings of this configuration are there.

    They are the root's own, or those that others put into `options.embeddings`.
    """
    place = open_root(root)
    space = caption_space(place, options, embeddings)
    with open_lanes(lanes.lanes, lanes.timeout):
        settled = find_run(place, options, space) or in_lane(
            "tasks.settings.caption:settle_run", place, options, space, lanes.lanes
        )
        todo = uncaptioned(place, settled, space)
        model, encoder = caption_sources(place, options, settled)
        jobs = [
            CaptionJob(root=root, shard=str(name), run=settled.name, model=model, encoder=encoder)
            for name in todo.shards
        ]
        if jobs:
            unseal(place, settled)
        stage = StageSummary(name="caption", requested=todo.requested, skipped=todo.skipped)
        run_stage(stage, caption_shard, jobs, lanes=lanes.lanes, pictures=todo.pictures)
    summary = Summary(command="caption", root=root, run=settled.name, stages=[stage])
    summary.outputs = [place.run(settled.name)]
    if summary.ok:
        summary.totals = finalise(place, settled)
    summary.samples = samples(place, settled)
    return final_state(summary, lanes.max_failed_shards)
