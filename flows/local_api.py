"""The Prefect server of a run: the one that is configured, or exactly one temporary one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import ConfigurationError
from storage.urls import redact

# A command's own lines are its log; Prefect's would repeat each of them with a traceback.
QUIET = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
START_TIMEOUT = 120
"""Seconds a server may take to start: the first one on a machine creates its database."""


@contextmanager
def prefect_api(engine: str = "local") -> Iterator[None]:
    """A Prefect server for the length of the block; a cluster's must be there already.

    Without a configured address every worker process would start a server of its own. The
    temporary server's database is never read as a record: receipts are. Raises
    ConfigurationError if a configured server does not answer.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from prefect.settings import (  # noqa: PLC0415 - costs more than a second
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        get_current_settings,
        temporary_settings,
    )

    if url := get_current_settings().api.url:
        _check_answer(url)
        yield
        return
    if engine != "local":
        from flows.engines import check_server  # noqa: PLC0415 - as above

        check_server(engine)
    from prefect.server.api.server import SubprocessASGIServer  # noqa: PLC0415 - as above

    server = SubprocessASGIServer()
    server.start(timeout=START_TIMEOUT)
    try:
        with temporary_settings(
            {PREFECT_API_URL: server.api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
        ):
            yield
    finally:
        server.stop()


def _check_answer(url: str) -> None:
    from httpx import TransportError  # noqa: PLC0415 - as above
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    if isinstance(error, TransportError):
        raise ConfigurationError(
            f"no Prefect server answers at {redact(url)}: start it, or unset PREFECT_API_URL"
        ) from error
