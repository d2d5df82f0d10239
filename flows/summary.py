"""What came of a stage and of a whole invocation, in numbers that a person or a machine reads."""

from dataclasses import dataclass, field
from typing import Any

POOR = 0.8
"""A shard of which fewer pictures come out well is told aloud."""


@dataclass(slots=True, kw_only=True)
class StageSummary:
    """One stage of one invocation."""

    name: str
    requested: int = 0
    """Shards in all."""
    skipped: int = 0
    """Shards that were done already."""
    rows: int = 0
    """Pictures of this invocation."""
    failures: dict[str, int] = field(default_factory=dict)
    """Pictures that failed, by error code."""
    failed_shards: dict[str, str] = field(default_factory=dict)
    """One sentence a shard."""
    poor_shards: dict[str, str] = field(default_factory=dict)
    """Shards that are done, and of which fewer pictures than `POOR` came out well."""
    seconds: float = 0.0
    work_seconds: float = 0.0
    """Spent inside the units of work by all lanes together: the rest is orchestration."""

    def judge(self, shard: str, rows: int, failed: int) -> None:
        """Remember a shard that is done but came out poorly."""
        if rows - failed < POOR * rows:
            self.poor_shards[shard] = f"{failed} of its {rows} pictures failed"

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.rows / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.name,
            "items": self.rows,
            "seconds": round(self.seconds, 3),
            "work_seconds": round(self.work_seconds, 3),
            "items_per_second": round(self.rate, 2),
            "shards": self.requested,
            "skipped_shards": self.skipped,
            "failed_shards": self.failed_shards,
            "poor_shards": self.poor_shards,
            "failures": self.failures,
        }


@dataclass(slots=True, kw_only=True)
class Summary:
    """One invocation of one command."""

    command: str
    root: str
    run: str = ""
    seconds: float = 0.0
    stages: list[StageSummary] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    """The whole run as it now stands, of all invocations: rows, captioned, failures."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    tolerated: bool = False
    """Whether no more shards failed than `max_failed_shards` allows."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What one command alone reports, such as the demo's scenes."""

    def add(self, other: "Summary") -> None:
        """Take over the stages and results of a flow that ran inside this one."""
        self.stages += other.stages
        self.run = other.run or self.run
        self.outputs += other.outputs
        self.totals = other.totals or self.totals
        self.samples = other.samples or self.samples
        self.facts |= other.facts

    @property
    def failed_shards(self) -> dict[str, str]:
        """Every shard that failed in any stage."""
        return {
            f"{stage.name} {shard}": why
            for stage in self.stages
            for shard, why in stage.failed_shards.items()
        }

    @property
    def ok(self) -> bool:
        """Whether every shard is done; pictures that failed are rows, not failures."""
        return not self.failed_shards

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        last = self.stages[-1] if self.stages else StageSummary(name="")
        failed = sum(last.failures.values())
        known = not last.skipped or self.totals  # a run that is not whole is not summed up
        skipped = int(self.totals.get("rows", 0)) - last.rows
        return {
            "command": self.command,
            "ok": self.ok,
            "root": self.root,
            "run": self.run,
            "seconds": round(self.seconds, 3),
            "rows": last.rows,
            "captioned": last.rows - failed if last.name == "caption" else 0,
            "failed": failed,
            "failures": last.failures,
            **({"skipped": max(0, skipped)} if known else {}),
            "stages": [stage.to_json() for stage in self.stages],
            "outputs": self.outputs,
            **({"alarms": self.totals["alarms"]} if self.totals.get("alarms") else {}),
            **self.facts,
        }
