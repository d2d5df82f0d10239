"""What a scheduled flow run calls its batch, so that a retry of it finds the same plan again.

The name is the date that the run was scheduled for, in the schedule's own time zone. Prefect
remembers it as a tag of the flow run before anything is planned; the plan itself is the record.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from prefect import get_client
from prefect.context import FlowRunContext

from storage.layout import Root
from storage.plan_file import find_plan
from tasks.ingest import IngestOptions

TAG = "batch:"
"""What the tag of a flow run begins with that says which batch is its own."""


def of_this_schedule(root: Root, ingest: IngestOptions) -> IngestOptions:
    """`ingest` for the flow run that asks: named by its date, and planned only once.

    A flow run that no deployment started, or whose batch has a name already, keeps `ingest`.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None or ingest.batch:
        return ingest
    with get_client(sync_client=True) as client:
        now = client.read_flow_run(run.id)
        batch = _tagged(now.tags)
        if not batch:
            zone = _zone(client.read_deployment(run.deployment_id).schedules)
            batch = free_batch(root, scheduled_date(now.expected_start_time or now.created, zone))
            client.update_flow_run(run.id, tags=[*now.tags, TAG + batch])
    return replace(ingest, batch=batch, look=find_plan(root, batch) is None)


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


def _tagged(tags: list[str]) -> str:
    return next((tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG)), "")


def _zone(schedules: list[Any]) -> str:
    """The zone that the deployment's schedules share; UTC where none says."""
    zones = [getattr(one.schedule, "timezone", None) for one in schedules]
    return next((zone for zone in zones if zone), "UTC")
