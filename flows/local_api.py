"""The Prefect server of a run: the one that is configured, or exactly one temporary one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

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
    temporary server's database is never read as a record: receipts are.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from prefect.settings import (  # noqa: PLC0415 - costs more than a second
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        get_current_settings,
        temporary_settings,
    )

    if get_current_settings().api.url:
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
