"""The caption flow: captions and scores for every embedded shard that has none in this run."""

import logging

from prefect import flow
from prefect.client.schemas.objects import State

from flows.engines import open_workers
from flows.finished import sum_up
from flows.pages import add_summary
from flows.stage import TASKS, final_state, run_stage
from flows.summary import StageSummary, Summary
from storage.layout import open_root
from storage.run_summary import samples, unseal
from tasks.lanes import in_lane
from tasks.options import CaptionOptions, EmbedOptions, LaneOptions
from tasks.outstanding import captioned_before, uncaptioned
from tasks.retryable import caption_shard
from tasks.settings.caption import caption_sources, find_run
from tasks.spaces import caption_space
from tasks.units.jobs import CaptionJob

ANEW = "run %s is new here: %d pictures that earlier runs captioned are captioned again"
_log = logging.getLogger(__name__)


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
    with open_workers(lanes, root):
        known = find_run(place, options, space)
        settled = known or in_lane(
            "tasks.settings.caption:settle_run", place, options, space, lanes.lanes
        )
        todo = uncaptioned(place, settled, space)
        again = 0 if known else captioned_before(place, settled, todo.shards)
        if again:
            _log.warning(ANEW, settled.name, again)
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
    if again:
        summary.facts["captioned_anew"] = again
    if summary.ok:
        sum_up(summary, place, settled, space)
    summary.samples = samples(place, settled)
    add_summary(summary)
    return final_state(summary, lanes.max_failed_shards)
