"""Runs whose pictures lie in real tars and whose captions are given by hand, hostile ones too."""

import random
from pathlib import Path
from typing import Any

from curated_runs import failed, lay_run, row
from PIL import Image
from planning import plan_batch

from storage.layout import open_root
from storage.plan import ShardOptions
from storage.shards import ShardStore
from storage.sources import open_source
from tasks.units.shard import judge

HOSTILE_CAPTIONS = (
    "<script>alert('caption')</script>",
    '=HYPERLINK("http://example.org","a formula")',
    "two lines\nof text\r\nand a third\ttab",
    "كلب بني على الشاطئ",
    "\u202eturned\u202c \u2067around\u2069",
    "a dog 🐕‍🦺 and a family 👩‍👩‍👧‍👦",
    "| a | table |\n|---|---|\n`code` $x^2$ [link](javascript:alert(1)) ![i](http://example.org/i)",
    "quotes \" ' and \\ back\\slashes, {braces|choice}, -->, ]]>, &amp; &lt;b&gt; %s {0} {{ 7*7 }}",
    "no end " * 1428 + "here",
    " spaces around ",
    "line\u2028separator and \u0085next line and \ufeffmark",
)


def draw(path: Path, number: int, side: int = 0) -> None:
    """A small picture unlike all others, or noise of a larger side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".webp": "WEBP"}.get(path.suffix.lower(), "PNG")
    if side:
        noise = random.Random(number).randbytes(3 * side * side)
        Image.frombytes("RGB", (side, side), noise).save(path, kind)
        return
    colour = (number * 53 % 251, number * 97 % 251, number * 31 % 251)
    Image.new("RGB", (40 + number % 30, 30 + number // 30), colour).save(path, kind)


def lay_pictures(
    home: Path,
    captions: dict[str, str | None],
    per_shard: int = 4,
    root: str = "",
    side: int = 0,
    **given: Any,
) -> str:
    """A root with a picture for every path, and a run `run` with these captions; None: failed."""
    pictures, root = home / "pictures", root or str(home / "root")
    for number, path in enumerate(captions):
        draw(pictures / path, number, side)
    source = open_source(str(pictures))
    place = open_root(root)
    plan = plan_batch(place, source, ShardOptions(samples_per_shard=per_shard))
    assert plan
    store = ShardStore(place)
    shards: dict[str, list[dict[str, Any]]] = {}
    for stem in plan.shards():
        store.cut(plan, stem, source, judge)
        shard = plan.shard(stem)
        shards[str(shard)] = [
            _row(one, captions[one["path"]], number, given)
            for table in store.index(shard)
            for number, one in enumerate(table.to_pylist())
        ]
    return lay_run(root, shards)


def _row(
    index: dict[str, Any], caption: str | None, number: int, given: dict[str, Any]
) -> dict[str, Any]:
    same = ("path", "url", "sha256", "width", "height", "format")
    facts = {name: index[name] for name in same} | given
    if caption is None:
        return failed(index["key"], **facts)
    texts = [caption, f"another caption for {number}"]
    candidates = [
        {"text": text, "logprob": -5.0 - place, "n_tokens": 4, "clip_sim": 0.3, "seed": place}
        for place, text in enumerate(texts)
    ]
    score = 0.2 + 0.01 * (number % 20)
    scored = {"clip_sim": score, "caption_logprob": -6.0 - number}
    return row(index["key"], **facts, caption=caption, captions=candidates, **scored)
