"""The nightly flow: shard what is new in a source, embed it, caption it, score it, sum it up."""

import time

from prefect import flow
from prefect.client.schemas.objects import State

from flows.caption import caption
from flows.embed import embed
from flows.engines import open_workers
from flows.pages import add_report
from flows.shard import shard
from flows.stage import TASKS, final_state, outcome
from flows.summary import Summary
from storage.layout import open_root
from tasks.ingest import IngestOptions
from tasks.options import CaptionOptions, LaneOptions
from tasks.reranking import rerank_embedding
from tasks.settings.caption import embedding_for


@flow(name="run", task_runner=TASKS)
def run(
    source: str,
    root: str,
    captions: CaptionOptions = CaptionOptions(),
    ingest: IngestOptions = IngestOptions(),
    lanes: LaneOptions = LaneOptions(),
) -> State[Summary]:
    """Caption everything in `source` that has no caption under `root` yet."""
    began = time.perf_counter()
    summary = Summary(command="run", root=root)
    with open_workers(lanes, root):
        embedding = embedding_for(open_root(root), captions)
        summary.add(outcome(shard(source, root, ingest, lanes, return_state=True)))
        summary.add(outcome(embed(root, embedding, lanes, return_state=True)))
        if scored := rerank_embedding(captions):
            summary.add(outcome(embed(root, scored, lanes, return_state=True)))
        summary.add(outcome(caption(root, captions, embedding, lanes, return_state=True)))
    summary.seconds = time.perf_counter() - began
    add_report(summary)
    return final_state(summary, lanes.max_failed_shards)
