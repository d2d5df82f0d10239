"""Runs to look through: pictures in real tars, captions by hand, and a server of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curated_runs import failed, lay_run, row
from planning import plan_batch

from captioner.scenes import draw, sample
from storage.layout import open_root
from storage.plan import ShardOptions
from storage.shards import ShardStore
from storage.sources import open_source
from tasks.units.shard import judge

HOSTILE = (
    "<script>document.title = 'broken'</script>",
    "=HYPERLINK(1)\nsecond line",
    "\u0643\u0644\u0628 \u0628\u0646\u064a \u202eturned\u202c",
    "a dog \U0001f415 and a family \U0001f469\u200d\U0001f469\u200d\U0001f467",
    "no end " * 1428 + "here",
    "{{ 7*7 }} {% raw %} &amp; \" onerror='alert(1)'",
)
REPOSITORY = Path(__file__).parent.parent


def lay_reviewed(
    home: Path, captions: Sequence[str | None], others: Sequence[str] | None = None
) -> str:
    """A root with a picture and a row for each caption, four a shard; None is a failed row.

    `others` are the second captions to choose from.
    """
    others = others or [f"another caption for {number}" for number in range(len(captions))]
    pictures, root = home / "pictures", str(home / "root")
    pictures.mkdir(parents=True)
    for number, scene in enumerate(sample(len(captions), 1)):
        draw(scene, size=128, seed=number).save(pictures / f"{number:03}.png")
    place, source = open_root(root), open_source(str(pictures))
    plan = plan_batch(place, source, ShardOptions(samples_per_shard=4))
    assert plan
    store, shards = ShardStore(place), {}
    for stem in plan.shards():
        store.cut(plan, stem, source, judge)
        shard = plan.shard(stem)
        rows = [one for table in store.index(shard) for one in table.to_pylist()]
        shards[str(shard)] = [_row(one, captions, others) for one in rows]
    return lay_run(root, shards)


def _row(
    index: dict[str, Any], captions: Sequence[str | None], others: Sequence[str]
) -> dict[str, Any]:
    number = int(index["path"][:3])
    caption = captions[number]
    facts = {name: index[name] for name in ("path", "sha256", "width", "height", "format")}
    if caption is None:
        return failed(index["key"], **(facts | {"orig_caption": "a torn photograph"}))
    score = 0.2 + number / 100
    candidates = [
        {"text": text, "logprob": -5.0, "n_tokens": 4, "clip_sim": score, "seed": None}
        for text in (caption, others[number])
    ]
    return row(index["key"], **facts, caption=caption, captions=candidates, clip_sim=score)


@contextmanager
def served(root: str, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of `nightcap review` in a process of its own, which is killed in the end."""
    command = [sys.executable, "-c", "from flows.cli import main; main()", "review", root]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [*command, "--json", "--port", "0", *options],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield json.loads(line)["url"], process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(30)
        if process.stdout:
            process.stdout.close()
