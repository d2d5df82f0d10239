"""Two small nights on a real Prefect server; `python -m proofs N1` runs the whole ones."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect.exceptions import ObjectNotFound

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_second_night_captions_what_is_new_and_the_server_tells_what_the_files_tell(
    tmp_path: Path,
) -> None:
    from proofs.nights import prove

    facts = prove(60, 1, tmp_path)
    assert facts["api"] == facts["files"]
    assert [night["caption"] for night in facts["files"]] == [60, 20]
    assert facts["rows"] == {"rows": 75, "of_these_bytes": True}
    assert facts["third"] == "Cancelled" or facts["third_captioned"] == 0
    assert facts["ok"]


def test_one_box_serves_a_night_without_a_pool(tmp_path: Path) -> None:
    """A run of the served deployment captions, and server and files tell the same of it."""
    from proofs.nights import Nights, draw, written
    from proofs.prefect_site import prefect_site

    pictures, root = tmp_path / "pictures", tmp_path / "root"
    draw(pictures, range(10), seed=1)
    command = [sys.executable, "-c", "from flows.cli import main; main()", "serve"]
    options = [str(pictures), str(root), "--cron", "0 2 * * *", "--timezone", "Europe/Berlin"]
    with prefect_site(tmp_path / "prefect") as site:
        process = subprocess.Popen(
            [*command, *options, "--json"], env=site.environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        facts = json.loads(process.stdout.readline())
        assert facts["deployment"] == "nightly/served"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                with Nights(site, pictures, root, 10, facts["deployment"]) as nights:
                    run = nights.finished(nights.start(datetime.now(UTC)))
                    told = nights.told(run.id)
                break
            except ObjectNotFound:
                time.sleep(1)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()
    assert run.state.is_completed()
    assert told == written(root, told["batch"])
    assert told["caption"] == 10
