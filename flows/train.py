"""The train flow: a model from a root's own embeddings and captions."""

from dataclasses import replace

from prefect import flow
from prefect.client.schemas.objects import State

from flows.finished import with_model
from flows.stage import TASKS, final_state, run_stage
from flows.summary import StageSummary, Summary
from storage.layout import open_root
from storage.models import ModelName
from tasks.lanes import in_lane, open_lanes
from tasks.options import EmbedOptions, LaneOptions, TrainOptions
from tasks.retryable import train_model
from tasks.settings.train import learnt_embeddings
from tasks.spaces import training_space
from tasks.units.jobs import TrainJob


@flow(name="train", task_runner=TASKS)
def train(
    root: str,
    options: TrainOptions = TrainOptions(),
    embeddings: EmbedOptions | None = None,
    lanes: LaneOptions = LaneOptions(),
) -> State[Summary]:
    """Train a model on every picture that has an embedding and a caption.

    They are the root's own, by the recipe's encoder where `embeddings` names none, or those that
    others put into `options.embeddings`.
    """
    place = open_root(root)
    space = training_space(place, options, embeddings or recipe_embeddings(options))
    with open_lanes(lanes.lanes, lanes.timeout):
        settled = in_lane(
            "tasks.settings.train:settle_training", place, options, space, lanes.lanes
        )
        model = ModelName(options.out, settled.name)
        job = TrainJob(root=root, name=model.name, version=model.version)
        stage = StageSummary(name="train", requested=1)
        run_stage(stage, train_model, [job], lanes=lanes.lanes)
    summary = Summary(command="train", root=root, stages=[stage])
    if summary.ok:
        with_model(summary, place, model)
    return final_state(summary, lanes.max_failed_shards)


def recipe_embeddings(options: TrainOptions) -> EmbedOptions:
    """The embeddings that the recipe learns from, made on the device that trains."""
    return replace(learnt_embeddings(options), compute=options.compute)
