"""prefect.yaml is checked key by key, because Prefect ignores a misspelt one in silence."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).parent.parent / "prefect.yaml"
KEYS = {
    "name", "description", "entrypoint", "parameters", "schedules", "concurrency_limit",
    "work_pool",
}  # fmt: skip
SCHEDULE = {"cron", "timezone", "slug", "active"}
LIMIT = {"limit", "collision_strategy", "grace_period_seconds"}


def content() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return read


def deployments() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = content()["deployments"]
    return found


each = pytest.mark.parametrize("deployment", deployments(), ids=lambda found: str(found["name"]))


def test_the_file_says_nothing_that_prefect_would_not_hear() -> None:
    assert content().keys() == {"name", "prefect-version", "pull", "definitions", "deployments"}
    (step,) = content()["pull"]
    assert step == {
        "prefect.deployments.steps.set_working_directory": {"directory": "{{ $NIGHTCAP_HOME }}"}
    }
    assert {"nightly", "backfill", "train", "verify"} == {found["name"] for found in deployments()}


@each
def test_a_deployment_says_nothing_that_prefect_would_not_hear(deployment: dict[str, Any]) -> None:
    assert deployment.keys() == KEYS
    assert deployment["concurrency_limit"].keys() == LIMIT
    assert deployment["work_pool"].keys() == {"name", "job_variables"}
    assert deployment["work_pool"]["job_variables"].keys() == {"env"}
    for schedule in deployment["schedules"]:
        assert schedule.keys() == SCHEDULE


@each
def test_a_deployment_names_a_flow_that_takes_its_parameters(
    deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(FILE.parent)
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    flow.validate_parameters(deployment["parameters"])
    assert flow.retries
    for schedule in deployment["schedules"]:
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])


@each
def test_no_deployment_overlaps_itself(deployment: dict[str, Any]) -> None:
    assert deployment["concurrency_limit"]["limit"] == 1
    assert deployment["concurrency_limit"]["collision_strategy"] == "CANCEL_NEW"


def test_no_two_schedules_share_a_slug_and_all_share_a_zone_with_a_name() -> None:
    schedules = [one for found in deployments() for one in found["schedules"]]
    slugs = [one["slug"] for one in schedules]
    assert sorted(set(slugs)) == sorted(slugs)
    zones = {one["timezone"] for one in schedules}
    assert len(zones) == 1
    assert "/" in zones.pop()


def test_training_and_captioning_wait_for_different_pools() -> None:
    pools = {found["name"]: found["work_pool"]["name"] for found in deployments()}
    assert (pools["nightly"], pools["train"]) == ("cpu", "gpu")


def test_all_who_embed_or_caption_one_root_ask_for_one_device() -> None:
    """`auto` would be settled by whichever pool runs first, for the others too."""
    devices = {}
    for found in deployments():
        asked = found["parameters"].get("captions") or found["parameters"].get("options")
        if asked:
            devices[found["name"]] = asked.get("compute", {}).get("device", "auto")
    assert devices.keys() == {"nightly", "backfill", "train"}
    assert len(set(devices.values())) == 1
    assert "auto" not in devices.values()


def test_the_automation_that_ends_silent_runs_is_one_that_prefect_reads() -> None:
    from prefect.events.schemas.automations import AutomationCore

    page = (FILE.parent / "docs" / "nightly.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```\n(name: end silent.*?)^```$", page, re.DOTALL | re.MULTILINE)
    automation = AutomationCore.model_validate(yaml.safe_load(block))
    assert automation.trigger.within.total_seconds() >= 3 * 180
    assert automation.actions[0].state.value == "CRASHED"
    assert automation.model_dump(exclude_unset=True).keys() == {"name", "trigger", "actions"}
