"""Two nights on a real Prefect server with a real process worker, every figure read back twice.

Night 1 captions all pictures; some are added and some changed; night 2 captions exactly those. A
third run that starts while the second goes on is cancelled by the server, or finds nothing to do.
Each figure is read from Prefect's API and from the files under the root, and both must be equal.
"""

import json
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from captioner import scenes
from proofs.prefect_site import Site, prefect_site
from storage.captions import caption_store, find_captions, open_captions
from storage.embeddings import embedding_store
from storage.fingerprint import sha256_file
from storage.layout import open_root
from storage.outputs import OutputStore
from storage.reading import run_space
from storage.shards import ShardStore

ZONE = "Europe/Berlin"
"""Of the schedules in prefect.yaml."""
NIGHT_SECONDS = 2400
SHARDS = 8
"""About as many for the first night."""


def prove(pictures: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Run both nights under `scratch`; a quarter is added in between, a hundredth is changed."""
    added, changed = pictures // 4, max(5, pictures // 100)
    collection, root = scratch / "pictures", scratch / "root"
    draw(collection, range(pictures), seed)
    with prefect_site(scratch / "prefect", OMP_NUM_THREADS="1") as site:
        site.prefect("deploy", "--all")
        with Nights(site, collection, root, pictures) as nights:
            now = datetime.now(UTC)
            first = nights.finished(nights.start(now - timedelta(days=1)))
            draw(collection, range(pictures, pictures + added), seed)
            draw(collection, range(changed), seed + 1)
            running = nights.start(now)
            nights.wait_until(running, {"RUNNING"})
            overlapping = nights.start(now)
            second = nights.finished(running)
            third = nights.finished(overlapping)
            expected = {"nights": [pictures, added + changed], "rows": pictures + added}
            told = [nights.told(run.id) for run in (first, second)]
            idle = nights.told(third.id) if third.state.is_completed() else {}
    days = [day.astimezone(ZoneInfo(ZONE)).date().isoformat() for day in (now - timedelta(1), now)]
    found = [written(root, day) for day in days]
    facts = {
        "expected": expected,
        "api": told,
        "files": found,
        "third": third.state.name,
        "third_captioned": idle.get("caption", 0),
        "rows": current(root, collection),
    }
    return {"proof": "N1", "ok": as_expected(facts), **facts}


def as_expected(facts: dict[str, Any]) -> bool:
    """Whether both nights did exactly what was new, and both accounts agree."""
    counts = facts["expected"]["nights"]
    stages = [{night[name] for name in ("shard", "embed", "caption")} for night in facts["files"]]
    return (
        facts["api"] == facts["files"]
        and stages == [{count} for count in counts]
        and facts["rows"] == {"rows": facts["expected"]["rows"], "of_these_bytes": True}
        and (facts["third"] == "Cancelled" or facts["third_captioned"] == 0)
    )


def draw(folder: Path, numbers: range, seed: int) -> None:
    """One drawn scene for each number; another seed draws others over them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, scene in zip(
        numbers, scenes.sample(numbers.stop, seed)[numbers.start :], strict=True
    ):
        scenes.draw(scene, size=64, seed=number).save(folder / f"{number:05}.png")


class Nights:
    """Flow runs of the nightly deployment, started and watched through the API."""

    def __init__(
        self,
        site: Site,
        collection: Path,
        root: Path,
        pictures: int,
        deployment: str = "nightly/nightly",
    ) -> None:
        self._name = deployment
        self._parameters = {
            "source": str(collection),
            "root": str(root),
            "ingest": {"shards": {"samples_per_shard": -(-pictures // SHARDS)}},
        }
        self._api = site.api

    def __enter__(self) -> "Nights":
        from prefect import get_client
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with ExitStack() as stack:
            stack.enter_context(temporary_settings({PREFECT_API_URL: self._api}))
            self._client = stack.enter_context(get_client(sync_client=True))
            self._deployment = self._client.read_deployment_by_name(self._name)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def start(self, when: datetime) -> UUID:
        """A run of the deployment that is due at `when`."""
        from prefect.states import Scheduled

        parameters = {**self._deployment.parameters, **self._parameters}
        run = self._client.create_flow_run_from_deployment(
            self._deployment.id, parameters=parameters, state=Scheduled(scheduled_time=when)
        )
        return run.id

    def wait_until(self, run: UUID, states: set[str]) -> Any:
        """The run once its state is one of these, or final."""
        deadline = time.monotonic() + NIGHT_SECONDS
        while time.monotonic() < deadline:
            seen = self._client.read_flow_run(run)
            if seen.state and (seen.state.type.value in states or seen.state.is_final()):
                return seen
            time.sleep(0.25)
        raise RuntimeError(f"flow run {run} did not come to {states} in {NIGHT_SECONDS} s")

    def finished(self, run: UUID) -> Any:
        """The run in its final state."""
        return self.wait_until(run, set())

    def told(self, run: UUID) -> dict[str, Any]:
        """What the API knows of a run: pictures of each stage, and shards captioned."""
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

        (artifact,) = self._client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        )
        lines = json.loads(str(artifact.data))
        tags = self._client.read_flow_run(run).tags
        (batch,) = [tag.removeprefix("batch:") for tag in tags if tag.startswith("batch:")]
        pictures = {line["stage"]: line["pictures"] for line in lines}
        shards = {line["stage"]: line["shards"] - line["skipped"] for line in lines}
        return {"batch": batch, **pictures, "shards": self._task_runs(run, shards["caption"])}

    def _task_runs(self, run: UUID, expected: int) -> int:
        """Captioned shards by their task runs, which the server records a little later."""
        from prefect.client.schemas.filters import (
            FlowRunFilter,
            FlowRunFilterParentFlowRunId,
            TaskRunFilter,
            TaskRunFilterName,
            TaskRunFilterState,
            TaskRunFilterStateType,
        )
        from prefect.client.schemas.objects import StateType

        done = TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.COMPLETED]))
        name = TaskRunFilterName(like_="caption-")
        for _ in range(60):
            runs = self._client.read_task_runs(
                flow_run_filter=FlowRunFilter(
                    parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run])
                ),
                task_run_filter=TaskRunFilter(name=name, state=done),
            )
            if len(runs) >= expected:
                break
            time.sleep(1)
        return len(runs)


def written(root: Path, batch: str) -> dict[str, Any]:
    """What the files know of a batch: pictures of each stage by receipts, and shards captioned."""
    place = open_root(str(root))
    run = find_captions(place, "")
    space = run_space(place, run)
    if space is None:
        raise RuntimeError("the run's embeddings are gone")
    captions = caption_store(place, run)
    shards = ShardStore(place).receipts(batch)
    return {
        "batch": batch,
        "shard": sum(made.receipt.rows for made in shards.values()),
        "embed": _rows(embedding_store(place, space), batch),
        "caption": _rows(captions, batch),
        "shards": len(captions.receipts(batch)),
    }


def _rows(store: OutputStore, batch: str) -> int:
    return sum(record.receipt.rows for record in store.receipts(batch).values())


def current(root: Path, collection: Path) -> dict[str, Any]:
    """How many pictures have a caption now, and whether each is of the bytes that lie there."""
    place = open_root(str(root))
    run = find_captions(place, "").name
    columns = ["path", "sha256", "caption"]
    rows = open_captions(str(root), run, columns=columns).read_all().to_pylist()
    there = {path.name: sha256_file(path) for path in collection.iterdir()}
    same = {row["path"]: row["sha256"] for row in rows} == there
    return {"rows": len(rows), "of_these_bytes": same and all(row["caption"] for row in rows)}
