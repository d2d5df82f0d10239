"""The demo flow: the whole main job on pictures that it draws itself, judged at the end."""

import time
from dataclasses import replace

from prefect import flow
from prefect.client.schemas.objects import State

from flows.caption import caption
from flows.embed import embed
from flows.pages import add_report
from flows.shard import shard
from flows.stage import TASKS, final_state, outcome
from flows.summary import Summary
from flows.train import train
from storage.captions import open_captions
from storage.layout import open_root
from storage.plan import ShardOptions
from storage.urls import join
from tasks.ingest import IngestOptions
from tasks.lanes import open_lanes
from tasks.options import CaptionOptions, LaneOptions, TrainOptions
from tasks.settings.caption import embedding_for
from tasks.units.draw import Drawing, draw_collection, judge_unseen

SHARDS = ShardOptions(samples_per_shard=1000)


@flow(name="demo", task_runner=TASKS)
def demo(
    out: str,
    drawing: Drawing = Drawing(),
    training: TrainOptions = TrainOptions(out="demo"),
    lanes: LaneOptions = LaneOptions(),
) -> State[Summary]:
    """Draw, shard, embed, train, caption and score under `out`; what is done is not done again."""
    began = time.perf_counter()
    pictures, root = join(out, "pictures"), join(out, "root")
    draw_collection(pictures, drawing)
    summary = Summary(command="demo", root=root)
    captions = CaptionOptions()
    embedding = embedding_for(open_root(root), captions)
    with open_lanes(lanes.lanes, lanes.timeout):
        ingest = IngestOptions(shards=SHARDS)
        summary.add(outcome(shard(pictures, root, ingest, lanes, return_state=True)))
        summary.add(outcome(embed(root, embedding, lanes, return_state=True)))
        trained = outcome(train(root, training, embedding, lanes, return_state=True))
        summary.add(trained)
        captions = replace(captions, model=str(trained.facts["model"]))
        summary.add(outcome(caption(root, captions, embedding, lanes, return_state=True)))
    rows = open_captions(root, summary.run, columns=["path", "caption"]).read_all().to_pylist()
    scenes, share, wrong = judge_unseen([(row["path"], row["caption"]) for row in rows], drawing)
    summary.seconds = time.perf_counter() - began
    add_report(summary)
    summary.facts |= {"scenes": scenes, "attribute_true": share, "wrong": wrong}
    return final_state(summary, lanes.max_failed_shards)
