"""What a page about a run tells: counts, distributions, rows to look at, and how it was made."""

import json
from dataclasses import dataclass
from typing import Any

from storage.captions import caption_store, find_captions, open_captions
from storage.commit import replace, scratch
from storage.errors import ConfigurationError
from storage.layout import Root, open_root
from storage.quantiles import Spool
from storage.report_sheet import NUMBERS, SHOWN, Row, Sheet, some_shards, unlike
from storage.settled import Settled
from storage.urls import folders, join, read_bytes, stat

BINS = 30
FILE = "report.html"
SUMMARY = "summary.json"
"""How long the stages took that last did something: the only clock beside the report's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How one number is spread."""

    name: str
    edges: list[float]
    counts: list[int]
    quantiles: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything a page shows but the pictures."""

    settled: Settled
    rows: int
    failures: dict[str, int]
    histograms: list[Histogram]
    """Of the numbers that any row has."""
    ranked_by: str
    sheets: dict[str, list[Row]]
    """`random`, `best`, `worst`, `failed`; no row is both one of the best and of the worst."""
    stats: dict[str, Any]
    """stats.json, empty while the run is not finished."""
    summary: dict[str, Any]
    """What the last invocation that did something came to, empty if that is not known."""
    waterfalls: list[dict[str, Any]]
    """Of the curations of this run that lie under the root."""

    @property
    def captioned(self) -> int:
        """Rows with a caption."""
        return self.rows - sum(self.failures.values())


def gather(root: str, run: str = "") -> Report:
    """Read the run once; ConfigurationError where there is none of that name."""
    place = open_root(root)
    settled = find_captions(place, run)
    store = caption_store(place, settled)
    shards = [f"{batch}/{stem}" for batch in store.batches() for stem in store.receipts(batch)]
    with scratch() as folder:
        spools = {name: Spool(folder / name) for name in NUMBERS}
        sheet = Sheet(some_shards(shards), spools)
        for batch in open_captions(place.url, settled.name, columns=SHOWN):
            if batch.num_rows:
                sheet.add(batch)
        histograms = [_histogram(name, spool) for name, spool in spools.items() if spool.count]
    home = place.run(settled.name)
    return Report(
        settled=settled,
        rows=sheet.rows,
        failures=dict(sorted(sheet.failures.items())),
        histograms=histograms,
        ranked_by=sheet.ranked_by,
        sheets=_sheets(sheet),
        stats=_json(join(home, "stats.json")),
        summary=_json(join(home, SUMMARY)),
        waterfalls=_waterfalls(place, settled),
    )


def report_url(root: str, run: str) -> str:
    """Where the page of a run lies."""
    return join(open_root(root).run(run), FILE)


def has_report(root: str, run: str) -> bool:
    """Whether the run has its page."""
    return stat(report_url(root, run)) is not None


def keep_summary(root: str, run: str, summary: dict[str, Any]) -> None:
    """Remember what the last invocation that did something came to, and how long it took."""
    text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
    replace(join(open_root(root).run(run), SUMMARY), text.encode())


def _sheets(sheet: Sheet) -> dict[str, list[Row]]:
    best = sheet.best()
    worst = unlike(sheet.worst(), best)
    return {"random": sheet.random(), "best": best, "worst": worst, "failed": sheet.failed()}


def _histogram(name: str, spool: Spool) -> Histogram:
    edges, counts = spool.histogram(BINS, whole=name == "words")
    return Histogram(name=name, edges=edges, counts=counts, quantiles=spool.quantiles() or {})


def _waterfalls(root: Root, settled: Settled) -> list[dict[str, Any]]:
    home = join(root.url, "curations")
    found = [_json(join(home, name, "waterfall.json")) for name in folders(home)]
    return [one for one in found if one.get("run") == settled.name and "waterfall" in one]


def _json(url: str) -> dict[str, Any]:
    """The object at `url`, empty where there is none that can be read."""
    try:
        body = json.loads(read_bytes(url))
    except (FileNotFoundError, ValueError, ConfigurationError):
        return {}
    return body if isinstance(body, dict) else {}
