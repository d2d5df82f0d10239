"""A plan that stands: what one ingest froze, read back.

`plan.json` says how many, from where and with what options; its rows lie beside it under a
content-addressed name, so that whoever reads one reads the other.
"""

import json
import logging
from dataclasses import dataclass
from functools import partial

from storage.ahead import ahead
from storage.errors import ConfigurationError, ShardError
from storage.fingerprint import fingerprint
from storage.layout import Root, ShardName
from storage.plan_rows import PlanRow, rows_of, stems_of
from storage.schema import SCHEMA_VERSION
from storage.urls import READERS, is_local, join, read_bytes

FORMAT = 1
FILE = "plan.json"
"""Name of the plan in its batch's folder, beside the receipts."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOptions:
    """How pictures become shards; frozen with the plan."""

    samples_per_shard: int = 10_000
    """Pictures a tar. Fewer make more, shorter tasks; ignored for tars of others."""
    resize: int | None = None
    """Short side in pixels that larger pictures are stored at; None keeps the original bytes."""

    def __post_init__(self) -> None:
        if self.samples_per_shard < 1:
            raise ConfigurationError(
                f"samples-per-shard must be at least 1, got {self.samples_per_shard}"
            )
        if self.resize is not None and self.resize < 1:
            raise ConfigurationError(f"resize must be at least 1 pixel, got {self.resize}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan that stands."""

    folder: str
    """URL of the batch's folder."""
    batch: str
    sequence: int
    """More than that of every plan that stood: the order of batches, whatever their names."""
    source: dict[str, str]
    """The source's own facts; `kind` and `source` are always there."""
    base: str
    """The folder that paths are relative to: plans that share it mean the same file by a path."""
    options: ShardOptions
    n_rows: int
    """Pictures, or tars of others."""
    n_shards: int
    counts: dict[str, int]
    """`new`, `changed` (other size or stamp than before), `vanished` since earlier plans."""
    passed_over: dict[str, int]
    """What the listing left out, by what it was."""
    data: str
    """File name of the rows."""
    data_sha256: str
    digest: str
    """Hash of what is planned; neither clocks nor this machine's paths are in it."""

    @property
    def kind(self) -> str:
        """`folder`, `table` or `tars`."""
        return self.source["kind"]

    @property
    def data_url(self) -> str:
        """URL of the rows."""
        return join(self.folder, self.data)

    def shards(self) -> list[str]:
        """Stems in order."""
        if self.kind == "tars":
            return stems_of(self.data_url)
        return [f"{number:05}" for number in range(self.n_shards)]

    def rows(self, stem: str) -> list[PlanRow]:
        """What shard `stem` is made of, in order; only the row groups that hold it are read."""
        rows = rows_of(self.data_url, stem)
        if not rows:
            raise ShardError(f"shard {stem!r} is not in the plan of batch {self.batch!r}")
        return rows

    def shard(self, stem: str) -> ShardName:
        """The full name of `stem`."""
        return ShardName(self.batch, stem)


def read_plan(root: Root, batch: str) -> Plan:
    """The plan of `batch`; ConfigurationError if it has none, or one that cannot be read."""
    plan = find_plan(root, batch)
    if plan is None:
        raise ConfigurationError(f"batch {batch!r} of this root has no plan: was it ever sharded?")
    return plan


def read_plans(root: Root) -> list[Plan]:
    """Every plan that stands, in the order they were made."""
    plans = ahead(partial(find_plan, root), root.batches(), 0 if is_local(root.url) else READERS)
    return sorted(filter(None, plans), key=lambda plan: (plan.sequence, plan.batch))


def shard_fingerprint(plan: Plan) -> str:
    """What the receipts of the shard stage bear."""
    facts = {"stage": "shard", "plan": plan.digest, "schema": SCHEMA_VERSION, "code": 1}
    return fingerprint(facts)


def find_plan(root: Root, batch: str) -> Plan | None:
    """None where no plan stands; one torn by a kill on a disk without links counts as none."""
    url = join(root.shards(batch), FILE)
    try:
        body = json.loads(read_bytes(url))
        digest = body.pop("file_digest")
        if digest != fingerprint(body) or body.pop("format") != FORMAT:
            raise ConfigurationError(f"{url!r} was edited or is of another version")
        options = ShardOptions(**body.pop("options"))
        facts = body["source"]
        body.setdefault("base", facts.get("images", facts["source"]))  # it was not always kept
        return Plan(folder=root.shards(batch), options=options, **body)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ConfigurationError):
            raise
        _log.warning("%r is no plan and is counted as absent: %s", url, error)
        return None
