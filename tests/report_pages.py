"""Runs to report on, and a page as a parser sees it."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from exported_runs import HOSTILE_CAPTIONS, lay_pictures

from storage.commit import replace
from storage.curate import CurateOptions, curate
from storage.curate_recipe import load_recipe

CAPTIONS: dict[str, str | None] = {
    **{f"dogs/{number:03}.png": text for number, text in enumerate(HOSTILE_CAPTIONS)},
    **{f"cats/{number:03}.png": f"a plain cat, number {number}" for number in range(12)},
    "\u202e<b>gnp.dog & 'cat'.png": "a picture with a hostile name",
    "bad/<img src=x>.png": None,
    "bad/second.png": None,
}
SPEEDS = {
    "command": "run",
    "seconds": 12.5,
    "stages": [
        {"name": name, "items": 26, "seconds": 4.0, "items_per_second": 6.5, "shards": 7}
        | {"skipped_shards": 0}
        for name in ("shard", "embed", "caption")
    ],
}
ALARM = {"alarm": "top_caption", "says": "12 of 24 captions are '<b>a dog</b>'"}


def lay_hostile(home: Path) -> str:
    """A root with hostile captions and names, failures, an alarm, speeds and a curation."""
    root = lay_pictures(home, CAPTIONS)
    run = f"{root}/captions/run"
    replace(f"{run}/summary.json", json.dumps(SPEEDS).encode())
    replace(f"{run}/stats.json", json.dumps({"alarms": [ALARM]}).encode())
    recipe = home / "mine.yaml"
    recipe.write_text(
        "recipe: mine\nabout: short ones\ntext: caption\nrules:\n"
        "  - {column: status, equals: ok}\n  - {column: words, max: 8}\n"
    )
    curate(root, load_recipe(str(recipe), ()), CurateOptions())
    return root


class Parsed(HTMLParser):
    """Elements with their attributes, and the text of each caption."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.captions: list[str] = []
        self.text = ""
        self._inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "p":
            self._inside = dict(attrs).get("class") == "caption"
            if self._inside:
                self.captions.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "p":
            self._inside = False

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"
        if self._inside:
            self.captions[-1] += data

    def values(self, attribute: str) -> list[str]:
        """Of every element that has it."""
        return [str(attrs[attribute]) for _, attrs in self.elements if attribute in attrs]

    def tags(self, name: str) -> list[dict[str, Any]]:
        """Attributes of every such element."""
        return [attrs for tag, attrs in self.elements if tag == name]
