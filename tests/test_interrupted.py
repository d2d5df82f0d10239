"""An interrupt ends a command within seconds, whatever its lanes are doing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from collections_of_pictures import draw_sizes

from storage.layout import open_root
from storage.plan import ShardOptions
from storage.sources import open_source
from tasks.ingest import IngestOptions
from tasks.outstanding import to_cut
from tasks.units.jobs import ShardJob
from tasks.units.shard import cut_shard

# A shell that starts a command in the background has it ignore interrupts.
NIGHTCAP = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from flows.cli import main; main()"
)


@pytest.mark.slow
def test_an_interrupt_waits_for_no_hung_lane_and_begins_nothing_new(tmp_path: Path) -> None:
    """Only the command is told, not its lanes; a receipt written afterwards would be work."""
    pictures, root = str(tmp_path / "pictures"), str(tmp_path / "root")
    draw_sizes(tmp_path / "pictures", 120)
    small = IngestOptions(shards=ShardOptions(samples_per_shard=1))
    for shard in to_cut(open_root(root), open_source(pictures), small).shards:
        cut_shard(ShardJob(root=root, shard=str(shard), source=pictures))
    command = subprocess.Popen(
        [sys.executable, "-c", NIGHTCAP, "embed", root, "--encoder", "size", "--timeout", "90"],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        done = Path(root).glob
        while not list(done("embeddings/*/0000/*.json")):
            assert command.poll() is None
            time.sleep(0.02)
        (lane,) = [
            child
            for child in psutil.Process(command.pid).children()
            if "spawn_main" in " ".join(child.cmdline())
        ]
        lane.suspend()
        time.sleep(1)
        written = len(list(done("embeddings/*/0000/*.json")))
        assert written < 120
        began = time.monotonic()
        command.send_signal(signal.SIGINT)
        command.wait(timeout=80)
        assert time.monotonic() - began < 15
        assert command.returncode == 130
        assert not lane.is_running()
        assert len(list(done("embeddings/*/0000/*.json"))) == written
    finally:
        command.kill()
        command.wait()
