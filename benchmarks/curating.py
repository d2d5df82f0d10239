"""Time, memory and waterfall of recipes on a run of a million rows, or of plain queries on more.

`python -m benchmarks.curating` lays a run of synthetic rows out and curates it, each recipe in a
process of its own. With `--export N` it writes a directory as an export is written (sorted by key,
row groups of 10,000, files of 500,000 rows) and times a threshold and a look-up by key in DuckDB.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.commands import tree_memory
from storage.captions import caption_store, run_settings
from storage.layout import ShardName, open_root
from storage.schema import CAPTION, CAPTIONS, ROW_GROUP

SHARD = 10_000
FILE = 500_000
SCORER = "ViT-B-32/openai"
RECIPES = {
    "laion-400m": (),
    "datacomp-clip-score": (f"scorer={SCORER}",),
    "cc12m": (),
    "datacomp-basic": (),
}
_THINGS = ["dog", "cat", "boat", "house", "tree", "car", "table", "bird", "bridge", "train"]
_LOOKS = ["red", "old", "wooden", "small", "bright", "white", "broken", "quiet", "striped"]
_PLACES = ["beach", "street", "garden", "kitchen", "hill", "river", "market", "room", "field"]
_TAILS = ["", " at night", " in the rain", " for sale", " with people around", " seen from above"]


def rows(number: int, count: int) -> pa.Table:
    """`count` rows that are a function of `number`: texts, scores and sizes as on the web."""
    draw = np.random.default_rng(number)
    failed = draw.random(count) < 0.02
    texts = _texts()
    caption, original = (texts.take(pa.array(draw.integers(0, len(texts), count))) for _ in "ab")
    score = draw.normal(0.29, 0.04, (2, count)).astype(np.float32)
    tokens = draw.integers(5, 25, count).astype(np.int16)
    logprob = (-tokens * draw.uniform(0.5, 2.5, count)).astype(np.float32)
    key = np.arange(number * count, (number + 1) * count, dtype=np.uint64) * np.uint64(1_000_003)
    picture = draw.integers(0, 1 << 40, count) % (30 * 10**6)
    ending = [f"{one:016x}" for one in key]
    columns: dict[str, Any] = {
        "key": ending,
        "shard": [f"0000/{number:05}"] * count,
        "path": [f"{one[:3]}/{one}.jpg" for one in ending],
        "url": [f"https://pictures.example/{one}.jpg" for one in ending],
        "sha256": [f"{one * 2654435761 % (1 << 64):064x}" for one in picture.tolist()],
        "width": _null(draw.integers(120, 1600, count).astype(np.int32), failed),
        "height": _null(draw.integers(120, 1600, count).astype(np.int32), failed),
        "format": np.array(["JPEG", "PNG", "WEBP"])[draw.choice(3, count, p=[0.85, 0.1, 0.05])],
        "orig_caption": original,
        "caption": _null(caption, failed),
        "caption_logprob": _null(logprob, failed),
        "n_tokens": _null(tokens, failed),
        "clip_sim": _null(score[0], failed),
        "orig_clip_sim": _null(score[1], failed),
        "captions": _candidates(caption, logprob, tokens, score[0]),
        "phash": _null(draw.integers(0, 1 << 63, count, dtype=np.uint64), failed),
        "status": np.where(failed, "error", "ok"),
        "error_code": np.where(failed, "corrupt", ""),
        "error_detail": pa.nulls(count, pa.string()),
    }
    return pa.table({name: _column(columns[name], CAPTIONS.field(name).type)
                     for name in CAPTIONS.names}, schema=CAPTIONS)  # fmt: skip


@cache
def _texts() -> pa.Array:
    draw = np.random.default_rng(0)
    parts = (_LOOKS, _THINGS, _PLACES, _TAILS, range(40))
    picked = [draw.choice(list(part), 60_000) for part in parts]
    plain = [
        f"a {look} {thing} on the {place}{tail}" + f", no. {n}" * int(n < 20)
        for look, thing, place, tail, n in zip(*picked, strict=True)
    ]
    plain[:1500] = [text.split()[2] for text in plain[:1500]]
    plain[1500:3000] = [f"{text} and {text}" for text in plain[1500:3000]]
    plain[3000:6000] = [f"ein Foto: {text.split()[2]} auf der Straße" for text in plain[3000:6000]]
    return pa.array(plain)


def _null(values: Any, missing: np.ndarray) -> pa.Array:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return pc.if_else(pa.array(missing), pa.scalar(None, array.type), array)


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    return (values if isinstance(values, pa.Array) else pa.array(values)).cast(kind)


def _candidates(*columns: Any) -> pa.Array:
    seeds = pa.nulls(len(columns[0]), pa.int64())
    parts = [_column(values, field.type) for values, field in
             zip((*columns, seeds), CAPTION, strict=True)]  # fmt: skip
    inner = pa.StructArray.from_arrays(parts, fields=list(CAPTION))
    return pa.ListArray.from_arrays(pa.array(range(len(inner) + 1), pa.int32()), inner)


def lay_run(root: str, count: int) -> None:
    """A run of `count` rows under `root`."""
    place = open_root(root)
    resolved = {"model": "synthetic", "scorer": SCORER, "embeddings": {"space": ""}}
    settled = run_settings(place).settle({}, lambda: resolved, title="model", name="synthetic")
    store = caption_store(place, settled)
    for number in range(count // SHARD):
        table = rows(number, SHARD)
        schema = CAPTIONS.with_metadata({"nightcap.scorer": SCORER})
        store.commit(ShardName("0000", f"{number:05}"), [table], schema, ())


def curated(root: str, recipe: str, changes: tuple[str, ...], threads: int) -> dict[str, Any]:
    """What the command says, with its peak of memory in MiB."""
    command = [sys.executable, "-c", "from flows.cli import main; main()", "curate", root]
    command += ["--recipe", recipe, "--threads", str(threads), "--json"]
    command += [word for change in changes for word in ("--set", change)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, tree_memory(process.pid))
        time.sleep(0.05)
    output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{recipe} failed")
    facts: dict[str, Any] = json.loads(output.splitlines()[-1])
    return facts | {"peak_mib": peak / 2**20}


def write_export(folder: Path, count: int) -> None:
    """Files of half a million rows, sorted by key."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = -(-count // FILE)
    for number in range(parts):
        path = folder / f"train-{number:05}-of-{parts:05}.parquet"
        with pq.ParquetWriter(
            path, CAPTIONS, compression="zstd", write_page_index=True, write_page_checksum=True
        ) as writer:
            for part in range(FILE // 50_000):
                table = rows(number * (FILE // 50_000) + part, 50_000)
                writer.write_table(table, row_group_size=ROW_GROUP)


def query(folder: Path, count: int, threads: int) -> None:
    """Time a threshold over all rows and look-ups by key, each in a new database."""
    source = f"read_parquet('{folder}/*.parquet')"
    draw = np.random.default_rng(1)
    keys = [f"{int(n) * 1_000_003:016x}" for n in draw.integers(0, count, 9)]
    threshold = f"select shard, key from {source} where status = 'ok' and clip_sim >= 0.3"
    times = []
    for _ in range(3):
        with duckdb.connect(config={"threads": threads}) as database:
            began = time.perf_counter()
            kept = database.execute(f"create table kept as {threshold}").fetchone()
            times.append(time.perf_counter() - began)
    print(f"threshold over {count} rows: {statistics.median(times):.2f} s, {kept} kept")
    times = []
    for key in keys:
        with duckdb.connect(config={"threads": threads}) as database:
            began = time.perf_counter()
            found = database.execute(f"select * from {source} where key = ?", [key]).fetchall()
            times.append(time.perf_counter() - began)
            assert len(found) == 1  # noqa: S101 - a look-up that finds nothing would be quick
    print(f"look-up by key: median {statistics.median(times) * 1e3:.0f} ms, "
          f"worst {max(times) * 1e3:.0f} ms")  # fmt: skip


def main() -> None:
    """Lay the rows out, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--export", type=int, default=0, metavar="ROWS")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--at", default="", help="Keep what is written here, and use it again.")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(chosen.at or scratch)
        if chosen.export:
            folder = home / f"export-{chosen.export}"
            if not folder.exists():
                write_export(folder, chosen.export)
            query(folder, chosen.export, chosen.threads)
            return
        root = home / f"root-{chosen.rows}"
        if not root.exists():
            lay_run(str(root), chosen.rows)
        for recipe, changes in RECIPES.items():
            facts = curated(str(root), recipe, changes, chosen.threads)
            print(f"{recipe}: {facts['rows']} rows, {facts['kept']} kept, "
                  f"{facts['seconds']:.1f} s, peak {facts['peak_mib']:.0f} MiB")  # fmt: skip
            for fall in facts["waterfall"]:
                print(f"  {fall['rule']}: {fall['in']} in, {fall['removed']} removed "
                      f"({fall['removed_alone']} alone), {fall['left']} left")  # fmt: skip


if __name__ == "__main__":
    main()
