"""The same flow on a Dask or Ray cluster of real processes: equal bytes, whatever is killed."""

import importlib.util
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from collections_of_pictures import draw_sizes, snapshot

from storage.errors import ConfigurationError
from storage.plan import ShardOptions
from tasks.ingest import IngestOptions
from tasks.options import CaptionOptions, ComputeOptions, LaneOptions, required

SIZE = CaptionOptions(model="size", compute=ComputeOptions(threads=1))
NANO = CaptionOptions(model="nano", compute=ComputeOptions(threads=1))
PROBE = Path(__file__).parent / "probe"
engines = pytest.mark.parametrize(
    "engine",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                importlib.util.find_spec(f"prefect_{name}") is None,
                reason=f"needs the extra {name}",
            ),
        )
        for name in ("dask", "ray")
    ],
)


@pytest.mark.parametrize("engine", ["spark", "local@tcp://here:1", ""])
def test_an_engine_that_is_none_is_named(engine: str) -> None:
    with pytest.raises(ConfigurationError, match="local, dask or ray"):
        LaneOptions(engine=engine)


def test_an_engine_whose_extra_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    required("local")
    with pytest.raises(ConfigurationError, match=r"pip install 'nightcap\[ray\]'"):
        required("ray")


def test_a_cluster_without_a_server_is_refused_before_any_server_is_started() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.local_api import prefect_api as api

    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(ConfigurationError, match="PREFECT_API_URL"),
        api("dask"),
    ):
        pass


def test_a_task_whose_worker_was_lost_for_good_is_told_by_what_the_cluster_says() -> None:
    """Prefect's own record of such a task says for ever that it is running."""
    from prefect.states import Running

    from flows.engines import settled

    class Wrapped:
        def exception(self) -> Exception:
            return MemoryError("killed 3 times")

    class Lost:
        state = Running()
        wrapped_future = Wrapped()

    assert str(settled(Lost())) == "killed 3 times"  # type: ignore[arg-type]


def run(
    pictures: Path, root: Path, captions: CaptionOptions, engine: str, shard_size: int = 5
) -> Any:
    from flows.run import run as flow
    from flows.stage import outcome

    lanes = LaneOptions(lanes=2, engine=engine)
    small = IngestOptions(shards=ShardOptions(samples_per_shard=shard_size))
    return outcome(flow(str(pictures), str(root), captions, small, lanes, return_state=True))


@pytest.mark.slow
@pytest.mark.timeout(400)
@engines
def test_a_cluster_of_two_processes_writes_the_bytes_that_one_machine_writes(
    engine: str, tmp_path: Path, prefect_api: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 shards, and no process loads a model twice on the way."""
    draw_sizes(tmp_path / "pictures", 80)
    paths = (str(PROBE), *filter(None, [os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    for name in ("local", engine):
        monkeypatch.setenv("NIGHTCAP_LOADS", str(tmp_path / f"{name}-loads"))
        summary = run(tmp_path / "pictures", tmp_path / name, NANO, name, shard_size=2)
        assert [stage.requested for stage in summary.stages] == [40, 40, 40]
        loads = (tmp_path / f"{name}-loads").read_text().splitlines()
        assert len(loads) == len(set(loads))
        writers = {line.split()[0] for line in loads if "load_captioner" in line}
        assert 1 <= len(writers) <= 2
        assert str(os.getpid()) not in writers
    assert snapshot(tmp_path / engine) == snapshot(tmp_path / "local")


@pytest.mark.slow
@pytest.mark.timeout(400)
@engines
def test_a_cluster_goes_on_without_a_worker_that_was_killed(
    engine: str, tmp_path: Path, prefect_api: None
) -> None:
    draw_sizes(tmp_path / "pictures", 200)
    assert run(tmp_path / "pictures", tmp_path / "local", SIZE, "local").ok
    root, killed = tmp_path / engine, []
    killer = threading.Thread(target=kill_once_begun, args=(engine, root, killed))
    killer.start()
    summary = run(tmp_path / "pictures", root, SIZE, engine)
    killer.join()
    assert len(killed) == 1
    assert summary.ok
    assert [stage.rows for stage in summary.stages] == [200, 200, 200]
    found = {path: data for path, data in snapshot(root).items() if ".partial" not in path}
    assert found == snapshot(tmp_path / "local")


def kill_once_begun(engine: str, root: Path, killed: list[int]) -> None:
    """Kill one worker process of this process's cluster once a few shards are embedded."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        done = sum(1 for _ in root.glob("embeddings/*/0000/*.json"))
        workers = worker_processes(engine) if done >= 3 else []
        if workers:
            os.kill(workers[0], signal.SIGKILL)
            killed.append(workers[0])
            return
        time.sleep(0.02)


def worker_processes(engine: str) -> list[int]:
    """Processes below this one that work on tasks."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            words = " ".join(process.cmdline())
            if engine == "ray" and words.startswith(("ray::embed-shard", "ray::caption-shard")):
                found.append(process.pid)
            if engine == "dask" and "spawn_main" in words and not process.children():
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.parametrize(
    "address",
    [
        pytest.param(
            address,
            marks=pytest.mark.skipif(
                importlib.util.find_spec(f"prefect_{address.partition('@')[0]}") is None,
                reason="needs the extra",
            ),
        )
        for address in ("dask@tcp://127.0.0.1:9", "dask@nonsense://here", "ray@auto")
    ],
)
def test_a_cluster_that_does_not_answer_is_refused_and_none_is_started_instead(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.engines import open_workers

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(ConfigurationError, match=f"{address}: no such cluster answers"),
        open_workers(LaneOptions(lanes=0, engine=address), str(tmp_path)),
    ):
        pass
