"""The train flow as deployments start it: a model is published only if it is not worse."""

from dataclasses import replace

from prefect import flow
from prefect.client.schemas.objects import State

from captioner.errors import CaptionerError
from flows.attempts import final
from flows.embed import embed
from flows.nightly import RETRIES, RETRY_DELAY
from flows.stage import TASKS, final_state, outcome
from flows.summary import Summary
from flows.train import recipe_embeddings, train
from storage.errors import ConfigurationError
from storage.layout import Root, open_root
from storage.models import (
    ModelName,
    adopt_model,
    find_trained,
    model_settings,
    newest_versions,
    versions,
)
from tasks.lanes import in_lane, open_lanes
from tasks.options import EmbedOptions, LaneOptions, TrainOptions

CANDIDATE = "-candidate"
"""What the name of a model ends with that was trained and not published yet."""
SLACK = 1e-6
"""Nats a caption by which two losses may differ and count as the same."""


@flow(name="train-weekly", task_runner=TASKS, retries=RETRIES, retry_delay_seconds=RETRY_DELAY)
def train_weekly(
    root: str,
    options: TrainOptions = TrainOptions(),
    embeddings: EmbedOptions | None = None,
    lanes: LaneOptions = LaneOptions(),
) -> State[Summary]:
    """Embed what is new, train `<out>-candidate`, and publish it as `<out>` unless it is worse.

    It is judged beside the newest version of that name, on the captions that its own training
    held out. Nothing that runs changes by it: a deployment captions with the version that it pins.
    Without `embeddings` it learns from its recipe's.
    """
    place = open_root(root)
    trial = replace(options, out=options.out + CANDIDATE)
    summary = Summary(command="train", root=root)
    with final(ConfigurationError, CaptionerError), open_lanes(lanes.lanes, lanes.timeout):
        learnt = embeddings or recipe_embeddings(options)
        if not options.embeddings:
            summary.add(outcome(embed(root, learnt, lanes, return_state=True)))
        summary.add(outcome(train(root, trial, learnt, lanes, return_state=True)))
        if summary.ok:
            candidate = find_trained(place, str(summary.facts["model"]))
            if candidate is None:
                raise ConfigurationError(f"model {summary.facts['model']} is gone: train it again")
            summary.facts |= publish_unless_worse(place, candidate, options.out)
    return final_state(summary, lanes.max_failed_shards)


def publish_unless_worse(place: Root, candidate: ModelName, name: str) -> dict[str, object]:
    """What was decided, and the losses it was decided by."""
    if candidate.version in versions(place, name):
        return {"model": f"{name}@{candidate.version}", "published": False, "held_out_losses": {}}
    standing = newest_versions(place, name)
    for model in standing:
        _comparable(place, candidate, model)
    losses: list[float] = []
    if standing:
        losses = in_lane("tasks.units.judge:held_out_losses", place, candidate, standing)
    better = not losses or losses[0] <= min(losses[1:]) + SLACK
    if better:
        adopt_model(place, candidate, name, [model.version for model in standing])
    named = (candidate, *standing) if losses else ()
    return {
        "model": f"{name}@{candidate.version}" if better else str(standing[0]),
        "published": better,
        "held_out_losses": {str(model): loss for model, loss in zip(named, losses, strict=True)},
    }


def _comparable(place: Root, candidate: ModelName, standing: ModelName) -> None:
    ours, theirs = (
        model_settings(place, model.name).read(model.version) for model in (candidate, standing)
    )
    if not (ours and theirs) or ours.resolved["space"] != theirs.resolved["space"]:
        raise ConfigurationError(
            f"model {standing} learnt from other embeddings than {candidate}: "
            "give the weekly training another name as options.out"
        )
