"""The run flow as deployments start it: batches named by date, and tried again when it fails."""

from prefect import flow
from prefect.client.schemas.objects import State

from captioner.errors import CaptionerError
from flows.attempts import final
from flows.run import run
from flows.scheduled import own_batch
from flows.stage import TASKS
from flows.summary import Summary
from storage.errors import ConfigurationError
from storage.layout import Root, open_root
from storage.models import find_trained
from tasks.ingest import IngestOptions
from tasks.options import CaptionOptions, LaneOptions

RETRIES, RETRY_DELAY = 2, 300
"""A whole flow is tried again, minutes apart; its shards were tried more often already."""


@flow(name="nightly", task_runner=TASKS, retries=RETRIES, retry_delay_seconds=RETRY_DELAY)
def nightly(
    source: str,
    root: str,
    captions: CaptionOptions = CaptionOptions(),
    ingest: IngestOptions = IngestOptions(),
    lanes: LaneOptions = LaneOptions(),
) -> State[Summary]:
    """Caption everything in `source` that has no caption under `root` yet, as a dated batch.

    A retry of the same flow run goes on with the plan that its first attempt made; a wrong
    configuration is not tried again. A trained model has to be pinned.
    """
    with final(ConfigurationError, CaptionerError):
        place = open_root(root)
        check_pinned(place, captions.model)
        with own_batch(place, source, ingest) as named:
            return run.fn(source, root, captions, named, lanes)


def check_pinned(root: Root, model: str) -> None:
    """Raise ConfigurationError if `model` names no version of a model trained under `root`.

    Its next version would be another run, in which every picture is captioned again.
    """
    found = None if "@" in model else find_trained(root, model)
    if found:
        raise ConfigurationError(
            f"model {model!r} is not pinned: give {str(found)!r}, or a model published later "
            "would have every picture captioned again"
        )
