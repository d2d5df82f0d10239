"""What a user may choose about cutting a source into shards."""

from dataclasses import dataclass

from storage.plan import ShardOptions
from storage.sources import TableOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """How a source becomes shards."""

    batch: str = ""
    """Name of the ingest; empty is the unfinished one, or else the next number."""
    shards: ShardOptions = ShardOptions()
    table: TableOptions = TableOptions()
    """How to read the source if it is a table."""
    look: bool = True
    """Whether to list the source for what is new; False if that was just done."""
