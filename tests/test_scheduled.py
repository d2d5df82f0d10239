"""Scheduled runs name their batches by date, and a retry finds the plan of the first attempt."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from collections_of_pictures import draw_sizes

from storage.errors import ConfigurationError
from storage.layout import open_root
from storage.plan import ShardOptions, plan_new
from storage.plan_file import read_plans
from storage.sources import open_source
from tasks.ingest import IngestOptions


def test_the_date_is_the_one_where_the_schedule_is() -> None:
    from flows.scheduled import scheduled_date

    moment = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
    assert scheduled_date(moment, "Europe/Berlin") == "2026-11-21"
    assert scheduled_date(moment, "America/Lima") == "2026-11-20"


def test_a_second_batch_of_a_date_gets_a_number(tmp_path: Path) -> None:
    from flows.scheduled import free_batch

    root = open_root(str(tmp_path))
    for expected in ("2026-11-21", "2026-11-21-2", "2026-11-21-3"):
        assert free_batch(root, "2026-11-21") == expected
        (tmp_path / "shards" / expected).mkdir(parents=True)


@pytest.fixture
def deployed(prefect_api: None, tmp_path: Path) -> UUID:
    """A deployment of the nightly flow in Lima's time, its schedule paused."""
    from prefect.schedules import Cron

    from flows.nightly import nightly

    schedule = Cron("0 2 * * *", timezone="America/Lima", slug="test", active=False)
    made = nightly.to_deployment(name=f"test-{tmp_path.name}", schedule=schedule)
    return made.apply()


def start(deployment: UUID, when: datetime, parameters: dict[str, Any]) -> UUID:
    """Create a flow run as the scheduler does, and execute it here."""
    from prefect import get_client
    from prefect.states import Scheduled

    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(
            deployment, state=Scheduled(scheduled_time=when), parameters=parameters
        )
    execute(run.id)
    return run.id


def execute(run: UUID) -> None:
    from prefect import get_client
    from prefect.flow_engine import run_flow

    from flows.nightly import nightly

    with get_client(sync_client=True) as client:
        run_flow(
            nightly.with_options(retries=0),
            flow_run=client.read_flow_run(run),
            return_type="state",
        )


def seen(run: UUID) -> Any:
    from prefect import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(run)


def parameters(folder: Path, **captions: Any) -> dict[str, Any]:
    return {
        "source": str(folder / "pictures"),
        "root": str(folder / "root"),
        "captions": {"model": "size", "compute": {"threads": 1}, **captions},
        "ingest": {"shards": {"samples_per_shard": 5}},
        "lanes": {"lanes": 0},
    }


def planned(folder: Path) -> list[tuple[str, int]]:
    return [(plan.batch, plan.n_rows) for plan in read_plans(open_root(str(folder / "root")))]


def test_a_scheduled_run_names_its_batch_by_its_date_in_its_zone(
    deployed: UUID, tmp_path: Path
) -> None:
    draw_sizes(tmp_path / "pictures", 7)
    when = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
    first = seen(start(deployed, when, parameters(tmp_path)))
    assert first.state.is_completed()
    assert "batch:2026-11-20" in first.tags
    draw_sizes(tmp_path / "pictures", 3, start=7)
    second = seen(start(deployed, when, parameters(tmp_path)))
    assert "batch:2026-11-20-2" in second.tags
    assert planned(tmp_path) == [("2026-11-20", 7), ("2026-11-20-2", 3)]


def test_a_retry_of_a_scheduled_run_goes_on_with_its_own_plan(
    deployed: UUID, tmp_path: Path
) -> None:
    """The first attempt cuts and then fails; what comes in before the second has to wait."""
    from prefect import get_client
    from prefect.states import AwaitingRetry

    draw_sizes(tmp_path / "pictures", 7)
    broken = parameters(tmp_path, embeddings=str(tmp_path / "nowhere"))
    run = start(deployed, datetime(2026, 11, 21, 12, 0, tzinfo=UTC), broken)
    assert seen(run).state.is_failed()
    draw_sizes(tmp_path / "pictures", 3, start=7)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, AwaitingRetry(), force=True)
    execute(run)
    assert seen(run).run_count == 2
    assert planned(tmp_path) == [("2026-11-21", 7)]


def test_a_retry_whose_name_went_to_another_source_takes_the_next_one(
    deployed: UUID, tmp_path: Path
) -> None:
    """Two deployments chose one name; the plan that stands under it is the other's."""
    from prefect import get_client
    from prefect.states import Scheduled

    draw_sizes(tmp_path / "pictures", 3)
    plan_other(tmp_path, "2026-11-21")
    when = Scheduled(scheduled_time=datetime(2026, 11, 21, 12, 0, tzinfo=UTC))
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(
            deployed, state=when, parameters=parameters(tmp_path), tags=["mine", "batch:2026-11-21"]
        )
    execute(run.id)
    assert seen(run.id).state.is_completed()
    assert set(seen(run.id).tags) == {"mine", "batch:2026-11-21-2"}
    assert planned(tmp_path) == [("2026-11-21", 2), ("2026-11-21-2", 3)]


def test_a_run_that_loses_its_name_while_it_plans_is_tried_again(
    deployed: UUID, tmp_path: Path
) -> None:
    """The refusal is a ConfigurationError, which no flow run is tried again for."""
    from prefect import flow, get_client
    from prefect.flow_engine import run_flow
    from prefect.states import Scheduled

    from flows.attempts import final
    from flows.scheduled import own_batch

    draw_sizes(tmp_path / "pictures", 3)

    @flow(retries=1, retry_delay_seconds=0)
    def plan(source: str, root: str) -> None:
        place = open_root(root)
        with final(ConfigurationError), own_batch(place, source, IngestOptions()) as named:
            if not place.batches():
                plan_other(tmp_path, named.batch)
            plan_new(place, open_source(source), ShardOptions(), named.batch)

    given = {name: parameters(tmp_path)[name] for name in ("source", "root")}
    when = Scheduled(scheduled_time=datetime(2026, 11, 21, 12, 0, tzinfo=UTC))
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployed, state=when, parameters=given)
        run_flow(plan, flow_run=client.read_flow_run(run.id), parameters=given, return_type="state")
    assert (seen(run.id).state.is_completed(), seen(run.id).run_count) == (True, 2)
    assert planned(tmp_path) == [("2026-11-21", 2), ("2026-11-21-2", 3)]


def plan_other(folder: Path, batch: str) -> None:
    """The plan of another source with two pictures, as another deployment makes it."""
    draw_sizes(folder / "other", 2)
    root = open_root(str(folder / "root"))
    assert plan_new(root, open_source(str(folder / "other")), ShardOptions(), batch)


def test_a_run_that_nobody_scheduled_numbers_its_batches(prefect_api: None, tmp_path: Path) -> None:
    from flows.nightly import nightly

    draw_sizes(tmp_path / "pictures", 3)
    nightly(**parameters(tmp_path), return_state=True)
    assert planned(tmp_path) == [("0000", 3)]
