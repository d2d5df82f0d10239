"""prefect.yaml is checked key by key, because Prefect ignores a misspelt one in silence."""

from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).parent.parent / "prefect.yaml"
KEYS = {
    "name", "description", "entrypoint", "parameters", "schedules", "concurrency_limit",
    "work_pool", "tags", "version",
}  # fmt: skip
SCHEDULE = {"cron", "timezone", "slug", "active", "replaces"}
LIMIT = {"limit", "collision_strategy", "grace_period_seconds"}
POOL = {"name", "work_queue_name", "job_variables"}


def deployments() -> list[dict[str, Any]]:
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert content.keys() <= {"name", "prefect-version", "pull", "definitions", "deployments"}
    found: list[dict[str, Any]] = content["deployments"]
    return found


@pytest.mark.parametrize("deployment", deployments(), ids=lambda found: str(found["name"]))
def test_a_deployment_says_nothing_that_prefect_would_not_hear(deployment: dict[str, Any]) -> None:
    assert deployment.keys() <= KEYS
    assert deployment["concurrency_limit"].keys() <= LIMIT
    assert deployment["work_pool"].keys() <= POOL
    for schedule in deployment["schedules"]:
        assert schedule.keys() <= SCHEDULE
        assert schedule["slug"]


@pytest.mark.parametrize("deployment", deployments(), ids=lambda found: str(found["name"]))
def test_a_deployment_names_a_flow_that_takes_its_parameters(
    deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(FILE.parent)
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    flow.validate_parameters(deployment["parameters"])
    for schedule in deployment["schedules"]:
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])


def test_nightly_never_overlaps_itself() -> None:
    (nightly,) = [found for found in deployments() if found["name"] == "nightly"]
    assert nightly["concurrency_limit"]["limit"] == 1
    assert nightly["concurrency_limit"]["collision_strategy"] == "CANCEL_NEW"
