"""SIGKILL of the whole process group at many moments: what is resumed equals what was never cut."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from collections_of_pictures import draw_sizes, snapshot

pytestmark = pytest.mark.slow

MOMENTS = 10
COMMAND = [sys.executable, "-c", "from flows.cli import main; main()", "run"]
OPTIONS = ["--model", "size", "--samples-per-shard", "40", "--threads", "1", "--json"]


def start(pictures: Path, root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, str(pictures), str(root), *OPTIONS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(pictures: Path, root: Path) -> None:
    process = start(pictures, root)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def kill_after(process: subprocess.Popen[str], root: Path, files: int) -> bool:
    """Kill everything the command started once `root` holds so many files; False if too late."""
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if sum(path.is_file() for path in root.rglob("*")) >= files:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(0.002)
    process.communicate()
    return False


@pytest.mark.timeout(1100)
def test_a_run_killed_at_ten_moments_ends_like_one_that_was_not(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    draw_sizes(pictures, 400)
    finish(pictures, tmp_path / "whole")
    expected = snapshot(tmp_path / "whole")
    root = tmp_path / "root"
    draw = random.Random(7)
    thresholds = sorted(draw.sample(range(1, len(expected)), MOMENTS))
    kills = 0
    for threshold in thresholds:
        kills += kill_after(start(pictures, root), root, threshold)
    finish(pictures, root)
    found = {path: data for path, data in snapshot(root).items() if ".partial" not in path}
    assert kills == MOMENTS
    assert found == expected


def test_a_second_run_of_a_finished_root_is_quick_and_writes_nothing(tmp_path: Path) -> None:
    pictures, root = tmp_path / "pictures", tmp_path / "root"
    draw_sizes(pictures, 200)
    finish(pictures, root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    finish(pictures, root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
