"""How soon a page of `nightcap review` is there, and how much memory its server takes.

`python -m benchmarks.reviewing` lays a run of 100,000 rows out, its pictures in tars of 10,000, and
asks a server in a process of its own for pages, choices, pictures and decisions, over HTTP.
"""

import argparse
import io
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from PIL import Image

from benchmarks.curating import SCORER, SHARD, rows
from storage.captions import caption_store, run_settings
from storage.layout import ShardName, open_root
from storage.plan import ShardOptions, plan_new
from storage.schema import CAPTIONS
from storage.shards import ShardStore
from storage.sources import open_source
from storage.tar_writer import TarWriter
from tasks.units.shard import judge

CHOICES = {
    "text in 5 % of rows": "text=kitchen",
    "text in none": "text=elephants+everywhere",
    "score": "low=0.3&high=0.32",
    "failed": "state=failed",
    "not reviewed, worst first": "review=open&order=worst",
    "text, score and order": "text=dog&low=0.25&order=best",
}
AIMS = {"first page": 1.0, "next page": 0.2, "choice": 0.5, "memory": 500.0}


def lay(folder: Path, count: int) -> str:
    """A root with `count` pictures in tars, and a run over them."""
    tars, root = folder / "tars", str(folder / "root")
    tars.mkdir()
    for number in range(count // SHARD):
        _write_tar(tars / f"{number:05}.tar", number)
    place, source = open_root(root), open_source(f"{tars}/*.tar")
    plan = plan_new(place, source, ShardOptions(), "0000")
    if plan is None:
        raise ValueError(f"no tars in {tars}")
    resolved = {"model": "synthetic", "scorer": SCORER, "embeddings": {"space": ""}}
    settled = run_settings(place).settle({}, lambda: resolved, title="model", name="synthetic")
    store, shards = caption_store(place, settled), ShardStore(place)
    for number, stem in enumerate(plan.shards()):
        shards.adopt(plan, stem, judge)
        index = pa.concat_tables(shards.index(ShardName("0000", stem)))
        table = rows(number, SHARD)
        for name in ("key", "path", "sha256", "width", "height", "format"):
            place_of = table.schema.get_field_index(name)
            table = table.set_column(place_of, CAPTIONS.field(name), index[name])
        store.commit(ShardName("0000", stem), [table], CAPTIONS, ())
    return root


def _write_tar(path: Path, number: int) -> None:
    draw = np.random.default_rng(number)
    pictures = []
    for _ in range(16):
        waves = draw.integers(0, 255, (12, 16, 3)).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(waves).resize((384, 288), Image.Resampling.BICUBIC).save(out, "JPEG")
        pictures.append(out.getvalue())
    with TarWriter(path) as tar:
        for at in range(SHARD):
            key = f"{number:05}{at:05}"
            tar.write(key, ("jpg", pictures[at % 16] + key.encode()), {})


@contextmanager
def server(root: str) -> Iterator[tuple[str, int]]:
    """Address and process id."""
    command = [sys.executable, "-c", "from flows.cli import main; main()", "review", root]
    process = subprocess.Popen(
        [*command, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True
    )
    try:
        yield json.loads(process.stdout.readline())["url"], process.pid
    finally:
        process.kill()
        process.wait()


def peak_mib(pid: int) -> float:
    """Most memory the process has held."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024


def timed(ask: Callable[[], httpx.Response]) -> tuple[float, httpx.Response]:
    """Seconds of an answer, which must be a good one."""
    began = time.perf_counter()
    answer = ask().raise_for_status()
    return time.perf_counter() - began, answer


def measure(root: str) -> dict[str, Any]:
    """Every figure."""
    began = time.perf_counter()
    with server(root) as (url, pid), httpx.Client(base_url=url, timeout=60) as browser:
        found: dict[str, Any] = {"start": time.perf_counter() - began}
        found["first page"], answer = timed(lambda: browser.get("./"))
        found["next page"], page = _walk(browser, answer.text, "next", 30)
        found["page before"], _ = _walk(browser, page, "prev", 10)
        found["row"] = _spread([timed(lambda: browser.get("row?id=777"))[0] for _ in range(10)])
        found["choice"] = {
            name: _spread([timed(lambda q=query: browser.get(f"./?{q}"))[0] for _ in range(5)])
            for name, query in CHOICES.items()
        }
        first, *others = [timed(lambda n=n: browser.get(f"image/{n}"))[0] for n in range(5, 65)]
        found["picture, first of its tar"] = first
        found["picture"] = _spread(others)
        sound = browser.get("./?state=captioned")  # a failed row has nothing to decide
        found["decision"] = _spread(_decisions(browser, sound.text, 100))
        jumps = range(0, int(re.search(r"(\d+) rows", answer.text)[1]), SHARD)
        found["first picture of each tar"] = _spread(
            [timed(lambda n=n: browser.get(f"image/{n}"))[0] for n in jumps]
        )
        found["memory"] = peak_mib(pid)
    return found


def _walk(browser: httpx.Client, page: str, rel: str, times: int) -> tuple[Any, str]:
    seconds = []
    for _ in range(times):
        link = unescape(re.search(rf'rel="{rel}" href="([^"]+)"', page)[1])
        took, answer = timed(lambda link=link: browser.get(link))
        seconds.append(took)
        page = answer.text
    return _spread(seconds), page


def _decisions(browser: httpx.Client, page: str, times: int) -> list[float]:
    seconds = []
    names = re.findall(r'data-shard="([^"]+)" data-key="([^"]+)"', page)
    for number in range(times):
        shard, key = names[number % len(names)]
        edit = {"id": uuid.uuid4().hex, "shard": shard, "key": key, "action": "reject"}
        body = {"by": "ann", "edits": [edit]}
        seconds.append(timed(lambda body=body: browser.post("edits", json=body))[0])
    return seconds


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds), "worst": max(seconds)}


def main() -> None:
    """Lay a run out, measure, print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="a multiple of 10,000")
    count = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="nightcap-bench-") as folder:
        root = lay(Path(folder), count)
        found = measure(root)
    print(json.dumps({"rows": count, **found}, indent=1))
    worst = max(choice["worst"] for choice in found["choice"].values())
    reached = {
        "first page": found["first page"],
        "next page": found["next page"]["worst"],
        "choice": worst,
        "memory": found["memory"],
    }
    for name, aim in AIMS.items():
        print(
            f"{name}: {reached[name]:.3f}, aim {aim:g}: {'ok' if reached[name] < aim else 'MISSED'}"
        )


if __name__ == "__main__":
    main()
