"""Flow runs that are tried again only where another attempt may come to something else.

Of a task Prefect asks a function whether to try it again (`retry_condition_fn`). Of a flow its
server counts attempts alone (3.9), by a number kept with the flow run: so the number is changed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_client
from prefect.context import FlowRunContext


@contextmanager
def final(*errors: type[Exception]) -> Iterator[None]:
    """End the flow run around the block for good where the block raises one of `errors`."""
    try:
        yield
    except errors:
        _no_more_attempts()
        raise


def _no_more_attempts() -> None:
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None:
        return
    with get_client(sync_client=True) as client:
        policy = client.read_flow_run(run.id).empirical_policy
        client.update_flow_run(run.id, empirical_policy=policy.model_copy(update={"retries": 0}))
