"""The pages of a review as HTML: what a row shows, and where each link leads."""

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from storage.edit_rows import failed
from storage.errors import ConfigurationError
from storage.review import ReviewTable
from storage.review_query import Place, Wanted

SIZE = 60
"""Cards a page."""
WORDS = {"accept": "accepted", "edit": "edited", "reject": "rejected", "undo": "undone"}


class Pages:
    """Renders the pages about one run."""

    def __init__(self, table: ReviewTable, reviewer: str) -> None:
        self._table = table
        environment = Environment(
            loader=PackageLoader("flows", "review_files"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        mark = hashlib.sha256(f"{table.root.url}\0{table.run}".encode()).hexdigest()[:16]
        environment.globals |= {"run": table.run, "reviewer": reviewer, "review_id": mark}
        environment.globals |= {"words": WORDS}
        self._grid = environment.get_template("grid.html.j2")
        self._row = environment.get_template("row.html.j2")

    def grid(self, wanted: Wanted, after: Place | None, before: Place | None) -> str:
        """A page of cards."""
        page = self._table.page(wanted, SIZE, after=after, before=before)
        first, last = (page.rows[0], page.rows[-1]) if page.rows else (None, None)
        return self._grid.render(
            wanted=wanted,
            totals=self._table.totals(),
            found=self._table.count(wanted),
            rows=[self._card(row, wanted) for row in page.rows],
            start=_link("./", wanted),
            earlier=_link("./", wanted, before=first["place"]) if first and page.earlier else "",
            later=_link("./", wanted, after=last["place"]) if last and page.later else "",
        )

    def row(self, wanted: Wanted, number: str) -> str:
        """One row; empty if there is none of this number."""
        row = self._table.row(int(number), wanted.order) if _is_number(number) else None
        if row is None:
            return ""
        after = self._table.page(wanted, 1, after=row["place"]).rows
        before = self._table.page(wanted, 1, before=row["place"]).rows
        return self._row.render(
            wanted=wanted,
            row=self._card(row, wanted),
            history=self._table.history(row),
            grid=_link("./", wanted),
            earlier=_link("row", wanted, id=before[0]["id"]) if before else "",
            later=_link("row", wanted, id=after[0]["id"]) if after else "",
        )

    def state(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What a script needs to show a row after a decision."""
        told = {name: row[name] for name in ("id", "shard", "key", "action", "edit")}
        return {**told, "caption": _caption(row), "says": _says(row)}

    def _card(self, row: Mapping[str, Any], wanted: Wanted) -> dict[str, Any]:
        return {
            **row,
            "link": _link("row", wanted, id=row["id"]),
            "image": f"image/{row['id']}",
            "says": _says(row),
            "shown": _caption(row),
            "failed": failed(row),
            "name": row["path"] or row["url"] or row["key"],
        }


def wanted_of(asked: Mapping[str, str]) -> Wanted:
    """The choice of rows that an address names; ConfigurationError if it makes no sense."""
    return Wanted(
        state=asked.get("state") or "all",
        review=asked.get("review") or "any",
        text=asked.get("text", ""),
        low=_number(asked.get("low", "")),
        high=_number(asked.get("high", "")),
        order=asked.get("order") or "row",
    )


def place_of(asked: Mapping[str, str], name: str) -> Place | None:
    """The place that an address names, if it names one."""
    return Place.parse(asked[name]) if asked.get(name) else None


def _number(text: str) -> float | None:
    try:
        return float(text) if text.strip() else None
    except ValueError as error:
        raise ConfigurationError(f"a score is a number, not {text[:40]!r}") from error


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 18


def _link(page: str, wanted: Wanted, **more: Any) -> str:
    """An address relative to the token, with what differs from the usual."""
    usual = Wanted()
    chosen = {
        name: value
        for name in ("state", "review", "text", "low", "high", "order")
        if (value := getattr(wanted, name)) != getattr(usual, name)
    }
    words = urlencode({**chosen, **more})
    return f"{page}?{words}" if words else page


def _caption(row: Mapping[str, Any]) -> str:
    """The text that counts now: the reviewer's if there is one."""
    if row["action"] in ("accept", "edit"):
        return str(row["decided"])
    return row["caption"] or ""


def _says(row: Mapping[str, Any]) -> str:
    """Who decided what."""
    return f"{WORDS[row['action']]} by {row['decided_by']}" if row["action"] else ""
