"""One plan to work on, as tests of shards want it."""

from storage.layout import Root
from storage.plan import Plan, ShardOptions, plan_new, unfinished
from storage.sources import Source


def plan_batch(
    root: Root, source: Source, options: ShardOptions, batch: str | None = None
) -> Plan | None:
    """The oldest unfinished plan of `source`, else a new one, else None: nothing is new."""
    pending = unfinished(root, source, options)
    return pending[0] if pending else plan_new(root, source, options, batch)
