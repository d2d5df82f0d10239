"""A Prefect server and a process worker of one's own, under one folder, for as long as a block."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).parent.parent
START_SECONDS = 240


@dataclass(frozen=True, slots=True)
class Site:
    """Where the server answers, and what processes have to be started with."""

    folder: Path
    environment: dict[str, str]

    @property
    def api(self) -> str:
        """URL of the server's API."""
        return self.environment["PREFECT_API_URL"]

    def prefect(self, *words: str) -> None:
        """Run a command of `prefect` in the repository; raises what it says if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *words],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"prefect {' '.join(words)}: {done.stdout[-2000:]}{done.stderr}")

    @contextmanager
    def process(self, name: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Keep a `prefect` command running, its output in `<name>.log`."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = _start([sys.executable, "-m", "prefect", *words], self.environment, log)
            try:
                yield process
            finally:
                _end(process)


@contextmanager
def prefect_site(folder: Path, **settings: str) -> Iterator[Site]:
    """A server with a new database, and two process pools, `cpu` and `gpu`, one worker on each."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    environment = {
        **os.environ,
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
        "NIGHTCAP_HOME": str(REPOSITORY),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        **settings,
    }
    site = Site(folder, environment)
    with ExitStack() as stack:
        words = ("server", "start", "--host", "127.0.0.1", "--port", str(port))
        server = stack.enter_context(site.process("server", *words))
        _wait_for(f"{site.api}/health", server)
        for pool in ("cpu", "gpu"):
            site.prefect("work-pool", "create", "--type", "process", pool)
        stack.enter_context(site.process("worker", "worker", "start", "--pool", "cpu"))
        yield site


def _start(
    command: list[str], environment: dict[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process with all that it started, politely first."""
    for sign, seconds in ((signal.SIGINT, 20), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, sign)
            process.wait(seconds)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"no Prefect server answers at {url}: see server.log")
