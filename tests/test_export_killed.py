"""Exports that are killed at many moments end like one that was not."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from collections_of_pictures import snapshot
from exported_runs import lay_pictures

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parent.parent
NIGHTCAP = [sys.executable, "-W", "ignore", "-c", "from flows.cli import main; main()"]
MOMENTS = 8


def start(root: str, out: Path, to: str) -> subprocess.Popen[bytes]:
    words = ["export", root, str(out), "--to", to, "--samples-per-tar", "25", "--json"]
    return subprocess.Popen(
        [*NIGHTCAP, *words], cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(root: str, out: Path, to: str) -> None:
    process = start(root, out, to)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


@pytest.mark.parametrize("to", ["imagefolder", "webdataset"])
def test_an_export_killed_at_many_moments_ends_like_one_that_was_not(
    to: str, tmp_path: Path
) -> None:
    captions: dict[str, str | None] = {f"{n:04}.png": f"caption {n}" for n in range(400)}
    root = lay_pictures(tmp_path, captions, per_shard=20, side=64)
    finish(root, tmp_path / "whole", to)
    expected = snapshot(tmp_path / "whole")
    out = tmp_path / "out"
    kills = 0
    for files in sorted(random.Random(3).sample(range(1, len(expected)), MOMENTS)):
        process = start(root, out, to)
        while process.poll() is None:
            if sum(path.is_file() for path in out.rglob("*")) >= files:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.001)
        process.communicate()
    finish(root, out, to)
    found = {path: data for path, data in snapshot(out).items() if ".partial" not in path}
    assert kills > MOMENTS // 2
    assert found == expected
