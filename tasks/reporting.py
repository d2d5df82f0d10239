"""The page about a run: what storage knows of it, with pictures and charts, as one static file."""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from captioner.histograms import histogram
from captioner.thumbnails import thumbnail
from storage.commit import replace
from storage.layout import open_root
from storage.report import Histogram, Report, gather, report_url
from storage.report_pictures import pictures_of
from storage.report_sheet import Row, identity
from storage.schema import ERROR_CODES

LONGEST = 10_000
"""Characters of a caption that are shown; with them a page stays below 20 MB."""
LONG = 1000
"""Characters of every other text."""
SHOWN_AT_ONCE = 280
TITLES = {
    "random": ("Random", "Drawn by their names: what an average row is like."),
    "best": ("Best", "The highest {by}."),
    "worst": ("Worst", "The lowest {by}: where to look for what the model does not know."),
    "failed": ("Failed", "Some of each kind of failure."),
}
NAMES = {
    "clip_sim": ("score", "clip_sim, cosine"),
    "caption_logprob": ("log-probability", "caption_logprob, nats"),
    "words": ("length", "words"),
}


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """What stands in the place of a picture."""

    reason: str = ""
    """Why there is none."""
    data: str = ""
    width: int = 0
    height: int = 0


def write_report(root: str, run: str = "", out: str = "") -> str:
    """Write the page of a run to `out`, or else into the run's folder; its URL."""
    report = gather(root, run)
    rows = [row for name in ("random", "best", "worst") for row in report.sheets[name]]
    url = out or report_url(root, report.settled.name)
    replace(url, render(report, _thumbnails(root, rows)).encode())
    return url


def render(report: Report, thumbnails: Mapping[tuple[str, str], Thumbnail]) -> str:
    """The page as HTML; every text of others is escaped by the template engine."""
    environment = Environment(
        loader=PackageLoader("tasks"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    by = NAMES.get(report.ranked_by, ("", ""))[0]
    sheets = [
        {
            "id": name,
            "title": title,
            "about": about.format(by=by),
            "rows": [_shown(row, thumbnails) for row in report.sheets[name]],
        }
        for name, (title, about) in TITLES.items()
    ]
    settled = report.settled
    settings: dict[str, Any] = {"run": settled.name, "fingerprint": settled.fingerprint}
    settings |= {"resolved": settled.resolved, "request": settled.request}
    return environment.get_template("report.html.j2").render(
        report=report,
        run=settled.name,
        model=str(settled.resolved.get("model", "unknown")),
        scorer=str(settled.resolved.get("scorer") or ""),
        alarms=report.stats.get("alarms"),
        sheets=sheets,
        charts=[_chart(one) for one in report.histograms],
        codes=ERROR_CODES,
        summary=report.summary or {"stages": []},
        settings=json.dumps(settings, indent=1, sort_keys=True, ensure_ascii=False),
    )


def _thumbnails(root: str, rows: Iterable[Row]) -> dict[tuple[str, str], Thumbnail]:
    """One picture at a time is held."""
    found = {}
    for name, data, reason in pictures_of(open_root(root), rows):
        small = thumbnail(data) if data is not None else None
        if small is None:
            found[name] = Thumbnail(reason or "it could not be decoded")
        else:
            jpeg, width, height = small
            found[name] = Thumbnail("", base64.b64encode(jpeg).decode(), width, height)
    return found


def _shown(row: Row, thumbnails: Mapping[tuple[str, str], Thumbnail]) -> dict[str, Any]:
    caption = _cut(row["caption"])
    return {
        **row,
        "name": _cut(row["path"] or row["key"], LONG),
        "beginning": caption[:SHOWN_AT_ONCE],
        "rest": caption[SHOWN_AT_ONCE:],
        "length": len(row["caption"] or ""),
        "orig_caption": _cut(row["orig_caption"], LONG),
        "error_detail": _cut(row["error_detail"], LONG),
        "thumbnail": thumbnails.get(identity(row)),
    }


def _cut(text: str | None, longest: int = LONGEST) -> str:
    text = text or ""
    return text if len(text) <= longest else f"{text[:longest]}…"


def _chart(one: Histogram) -> dict[str, Any]:
    title, label = NAMES[one.name]
    middle = one.quantiles.get("p50")
    svg = histogram(one.edges, one.counts, label, middle)
    bars = zip(one.edges, one.edges[1:], one.counts, strict=False)
    return {
        "title": title,
        "label": label,
        "data": base64.b64encode(svg.encode()).decode(),
        "total": sum(one.counts),
        "low": one.edges[0],
        "high": one.edges[-1],
        "middle": middle,
        "bars": list(bars),
        "quantiles": one.quantiles,
    }
