"""Trainings killed with SIGKILL and taken up again end as undisturbed ones do."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from collections_of_pictures import snapshot

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


def victim(recipe: str, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    places = [str(HERE.parent), str(HERE)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, str(HERE / "training_victim.py"), recipe, str(folder)]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def killed_after(validations: int, recipe: str, folder: Path) -> None:
    """Start, wait for so many new states, and kill at once."""
    state, seen, stamp = folder / "state" / "last.safetensors", 0, 0
    process = victim(recipe, folder)
    while seen < validations:
        assert process.poll() is None, "it ended before it could be killed"
        now = state.stat().st_mtime_ns if state.exists() else 0
        seen, stamp = seen + (now != stamp), now
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "result.json").exists()


@pytest.mark.parametrize("recipe", ["clipcap", "clipcap-transformer", "clipxgpt-small"])
def test_a_training_killed_three_times_ends_with_the_curve_and_bits_of_an_undisturbed_one(
    recipe: str, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert victim(recipe, whole).wait() == 0
    for validations in (2, 1, 3):
        killed_after(validations, recipe, cut)
    assert victim(recipe, cut).wait() == 0
    first, second = (json.loads((one / "result.json").read_text()) for one in (whole, cut))
    assert len(first["curve"]) == 10
    assert second == first
    assert snapshot(cut / "model") == snapshot(whole / "model")
