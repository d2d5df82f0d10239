"""What benchmarks found: one JSON line a row, and the table made of all of them.

A benchmark replaces its own lines and leaves those of others, so that each can be run alone.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent
_LINES = "results.jsonl"
_TABLE = "results.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    benchmark: str
    """Which benchmark it belongs to."""
    name: str
    """What was measured, and against whom."""
    ours: float | None = None
    peer: float | None = None
    unit: str = ""
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    """The lowest and highest figure of a round, of the ratio where there is one, else of ours."""
    limit_share: float | None = None
    """Part of the limit measured in the same run."""
    peak_mib: float | None = None
    peer_peak_mib: float | None = None
    aim: str = ""
    reached: bool | None = None
    """None where nothing was aimed at, or where it could not be measured."""
    note: str = ""
    """Conditions, or why there is no figure."""
    raw: dict[str, Any] = field(default_factory=dict)
    """Every round, for who wants to compute other figures."""


def keep(benchmark: str, rows: Sequence[Row], run: dict[str, Any], folder: Path = RESULTS) -> None:
    """Replace the rows of `benchmark` and write the table anew; `run` says how they were made."""
    others = [line for line in _read(folder) if line["benchmark"] != benchmark]
    lines = [*others, *({**asdict(row), "run": run} for row in rows)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _LINES).write_text(text, encoding="utf-8")
    (folder / _TABLE).write_text(table(lines), encoding="utf-8")


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The table in Markdown, and below it how each benchmark was run."""
    head = (
        "| what | ours | peer | ratio | spread | share of limit | peak MiB | aim | reached |",
        "|---|---|---|---|---|---|---|---|---|",
    )
    notes = [f"- {line['name']}: {line['note']}" for line in lines if line["note"]]
    runs = {line["benchmark"]: line["run"] for line in lines}
    made = [
        f"- `{run['command']}` on {run['date']}: {run['machine']}; {run['versions']}"
        for run in runs.values()
    ]
    about = (
        "Medians; the spread is the lowest and the highest round (of the ratio, where there is "
        "one); peak memory is ours / the peer's. Written by `python -m benchmarks`; every round "
        f"is in `{_LINES}`."
    )
    return "\n".join(
        [
            "# Results",
            "",
            about,
            "",
            *head,
            *map(_line, lines),
            "",
            "## Conditions and gaps",
            "",
            *notes,
            "",
            "## Made by",
            "",
            *made,
            "",
        ]
    )


def figure(value: float | None, unit: str = "") -> str:
    """A figure with three digits that count; empty for None."""
    if value is None:
        return ""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def table_line(row: Row) -> str:
    """One row of the table."""
    return _line(asdict(row))


def _line(line: dict[str, Any]) -> str:
    spread = line["spread"]
    peaks = [figure(line[name]) for name in ("peak_mib", "peer_peak_mib")]
    reached = {None: "", True: "yes", False: "no"}[line["reached"]]
    cells = [
        line["name"],
        figure(line["ours"], line["unit"]),
        figure(line["peer"], line["unit"]),
        f"{line['ratio']:.2f}" if line["ratio"] is not None else "",
        f"{figure(spread[0])} to {figure(spread[1])}" if spread else "",
        f"{line['limit_share']:.2f}" if line["limit_share"] is not None else "",
        " / ".join(peak for peak in peaks if peak),
        line["aim"],
        reached,
    ]
    return f"| {' | '.join(cells)} |"


def _read(folder: Path) -> list[dict[str, Any]]:
    path = folder / _LINES
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
