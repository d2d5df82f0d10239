"""What a scheduled flow run calls its batch, so that a retry of it finds the same plan again.

The name is the date that the run was scheduled for, in the schedule's own time zone. Prefect
remembers it as a tag of the flow run before anything is planned; the plan itself is the record,
and a name whose plan is of another source is not this run's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from storage.errors import ConfigurationError
from storage.layout import Root
from storage.plan_file import Plan, find_plan
from storage.sources import open_source
from tasks.ingest import IngestOptions

TAG = "batch:"
"""What the tag of a flow run begins with that says which batch is its own."""


class BatchTaken(Exception):
    """Another run's plan took the name that this one had chosen: another attempt takes the next."""


@contextmanager
def own_batch(root: Root, source: str, ingest: IngestOptions) -> Iterator[IngestOptions]:
    """`ingest` for the flow run around the block: named by its date, and planned only once.

    A flow run that no deployment started, or whose batch has a name already, keeps `ingest`.
    Raises BatchTaken instead of the block's ConfigurationError where the name was lost meanwhile.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None or ingest.batch:
        yield ingest
        return
    facts = open_source(source, exclude=root.url, table=ingest.table).facts
    named = _named(root, facts, run, ingest)
    try:
        yield named
    except ConfigurationError as error:
        if _is_anothers(find_plan(root, named.batch), facts):
            raise BatchTaken(f"batch {named.batch!r} was taken by another run") from error
        raise


def _named(root: Root, facts: dict[str, str], run: FlowRun, ingest: IngestOptions) -> IngestOptions:
    """`ingest` under the name in the run's tag, or a new one if that has become another's."""
    with get_client(sync_client=True) as client:
        now = client.read_flow_run(run.id)
        batch = _tagged(now.tags)
        plan = find_plan(root, batch) if batch else None
        if not batch or _is_anothers(plan, facts):
            zone = _zone(client.read_deployment(str(run.deployment_id)).schedules)
            batch = free_batch(root, scheduled_date(now.expected_start_time or now.created, zone))
            others = [tag for tag in now.tags if not tag.startswith(TAG)]
            client.update_flow_run(run.id, tags=[*others, TAG + batch])
            plan = None
    return replace(ingest, batch=batch, look=plan is None)


def scheduled_date(moment: datetime | None, zone: str) -> str:
    """The date of `moment` where `zone` is."""
    there = moment.astimezone(ZoneInfo(zone)) if moment else datetime.now(ZoneInfo(zone))
    return there.date().isoformat()


def free_batch(root: Root, date: str) -> str:
    """`date`, or the first of `-2`, `-3`, … that no batch of the root has."""
    taken, name, number = set(root.batches()), date, 2
    while name in taken:
        name, number = f"{date}-{number}", number + 1
    return name


def _is_anothers(plan: Plan | None, facts: dict[str, str]) -> bool:
    return plan is not None and plan.source != facts


def _tagged(tags: list[str]) -> str:
    return next((tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG)), "")


def _zone(schedules: list[Any]) -> str:
    """The zone that the deployment's schedules share; UTC where none says."""
    zones = [getattr(one.schedule, "timezone", None) for one in schedules]
    return next((zone for zone in zones if zone), "UTC")
