"""What every test may use: a root on each kind of store, and a Prefect server.

Nothing heavy is imported here: torch, Prefect and the S3 client load only with what needs them.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

_HOME = tempfile.mkdtemp(prefix="nightcap-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
_THREADS = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"

# Set before anything reads them, for this process and for all that tests start. Prefect's own home
# is never the user's; no test reaches a hub, a cloud or a metadata service.
os.environ.update(
    PREFECT_HOME=f"{_HOME}/prefect",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120",
    DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
    HF_HOME=f"{_HOME}/huggingface",
    HYPOTHESIS_STORAGE_DIRECTORY=f"{_HOME}/hypothesis",
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",  # noqa: S106
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
)
for _name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE", "AWS_PROFILE"):
    os.environ.pop(_name, None)
os.environ.setdefault("OMP_NUM_THREADS", _THREADS)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Address of an S3 server of this process's own, named in the environment while it runs."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("s3_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with server, pytest.MonkeyPatch.context() as environment:
        assert server.stdout
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        environment.setenv("AWS_ENDPOINT_URL", endpoint)
        yield endpoint
        assert server.stdin
        server.stdin.close()
        server.wait(timeout=20)


@pytest.fixture
def s3_root(s3_endpoint: str) -> str:
    """A root in a new bucket."""
    bucket = f"nightcap-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(bucket)
    return f"s3://{bucket}/root"


@pytest.fixture(params=["local", "memory", "s3"])
def root_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty root on each kind of store: what holds on one must hold on all."""
    if request.param == "local":
        return str(tmp_path / "root")
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/root"
    root: str = request.getfixturevalue("s3_root")
    return root


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """One temporary Prefect server for all tests of flows.

    Heartbeats are off: they make every flow run wait a second at its end.
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
        prefect_test_harness(server_startup_timeout=120),
    ):
        yield
