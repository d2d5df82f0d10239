"""The root's lock: a second command yields, a dead holder is taken over, nothing hangs on it."""

import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from collections_of_pictures import draw_sizes

from storage.commit import create
from storage.layout import open_root
from storage.lock import FILE, Holder, RootLocked, held, holder
from storage.urls import join, stat

COMMAND = [sys.executable, "-W", "ignore", "-c", "from flows.cli import main; main()"]


def nightcap(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], check=False, capture_output=True, text=True, timeout=120
    )


def write_holder(root: str, **changes: object) -> None:
    with held(open_root(root), "run") as ours:
        body = {name: getattr(ours, name) for name in Holder.__dataclass_fields__}
    assert create(join(root, FILE), json.dumps(body | changes).encode())


def test_a_second_holder_is_refused_and_told_who_holds_it(root_url: str) -> None:
    root = open_root(root_url)
    with held(root, "run"):
        said = rf"`nightcap run` of .* \(process {os.getpid()}\)"
        with pytest.raises(RootLocked, match=said), held(root, "gc"):
            pass
        assert holder(root)
    assert stat(join(root.url, FILE)) is None


def test_the_lock_is_free_again_after_a_failure(root_url: str) -> None:
    root = open_root(root_url)
    with pytest.raises(ZeroDivisionError), held(root, "run"):
        raise ZeroDivisionError
    with held(root, "run"):
        pass


def test_a_dead_process_of_this_machine_is_taken_over_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    child = multiprocessing.get_context("spawn").Process(target=int)
    child.start()
    child.join()
    write_holder(str(tmp_path), pid=child.pid)
    with held(open_root(str(tmp_path)), "run") as ours:
        assert holder(open_root(str(tmp_path))) == ours
    assert "taking over the lock of `nightcap run`" in caplog.text


def test_a_pid_that_another_process_has_now_is_a_dead_holder(tmp_path: Path) -> None:
    write_holder(str(tmp_path), started=1.0)
    with held(open_root(str(tmp_path)), "run"):
        pass


def test_a_holder_on_another_machine_is_taken_over_only_by_force(root_url: str) -> None:
    write_holder(root_url, host="elsewhere", pid=1)
    root = open_root(root_url)
    with pytest.raises(RootLocked, match=r"on elsewhere .*--force"), held(root, "run"):
        pass
    with held(root, "run", force=True):
        pass
    assert holder(root) is None


def test_whoever_lost_the_lock_to_force_leaves_it_to_its_new_holder(tmp_path: Path) -> None:
    root = open_root(str(tmp_path))
    with held(root, "run"), held(root, "run", force=True) as taker:
        pass
    with held(root, "run", force=True) as later:
        assert later != taker


def test_of_eight_at_once_one_holds_the_lock(tmp_path: Path) -> None:
    root = open_root(str(tmp_path))

    def attempt(_: int) -> bool:
        try:
            with held(root, "run"):
                together.wait(20)
        except RootLocked:
            together.wait(20)
            return False
        return True

    together = multiprocessing.Barrier(8)
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, range(8))) == 1


def test_a_command_yields_with_one_sentence_and_code_2(tmp_path: Path) -> None:
    pictures, root = tmp_path / "pictures", tmp_path / "root"
    draw_sizes(pictures, 3)
    with held(open_root(str(root)), "run"):
        found = nightcap("shard", str(pictures), str(root), "--lanes", "0")
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert "since" in found.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_reading_commands_mind_no_lock(tmp_path: Path) -> None:
    with held(open_root(str(tmp_path / "root")), "run"):
        assert nightcap("status", str(tmp_path / "root"), "--json").returncode == 0


def test_force_is_an_option_of_every_command_that_writes() -> None:
    from typer.main import get_command

    from flows.cli import app
    from flows.locking import WRITERS

    known = get_command(app).commands  # type: ignore[attr-defined]
    for command in WRITERS:
        assert "force" in [option.name for option in known[command].params], command
