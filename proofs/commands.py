"""The command line as its users start it, in a process group of its own."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-c", "from flows.cli import main; main()"]
OWN = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    """`nightcap WORDS`, with Prefect's home at `home` and both outputs piped."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [*COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=kept | OWN | {"PREFECT_HOME": str(home)},
    )
