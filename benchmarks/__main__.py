"""Figures of this machine: `python -m benchmarks [NAME ...]` runs all or some, and writes a table.

Every benchmark stands alone and keeps what the others found, so a long run may be cut anywhere.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS, Row, keep, table_line
from benchmarks.settings import CACHE, Settings, facts
from benchmarks.side import SideFailedError

BENCHMARKS = {
    "decoding": "captions/s against generate and a plain loop, and the limit",
    "decoding-vllm": "captions/s against vLLM on a CPU",
    "int8": "captions/s of the int8 mode against bf16, and what it changes",
    "beams": "captions/s with 5 beams against generate",
    "embedding": "pictures/s of a ViT-B-32 from decoded pixels, and the limit",
    "tars": "pictures/s from JPEG tars against open_clip with webdataset and PIL",
    "tars-clip-retrieval": "pictures/s from JPEG tars against clip-retrieval",
    "photos": "photographs of 12 megapixels to tensors against PIL",
    "reader": "samples/s out of tars against webdataset",
    "training-loop": "training samples/s against a ClipCap-style loop, and the losses",
    "orchestration": "time beside the stages' own work, for a shard and once",
    "finished-root": "a finished root of 2,000 shards: run again, status",
    "memory": "peak memory at 200,000 rows against 20,000",
    "million": "1,000,000 stored embeddings captioned with nano",
}
"""Each is a module with `rows(settings)`, named here with underscores for hyphens."""


def main(words: list[str] | None = None) -> int:
    """Run what was asked for; 1 if anything failed."""
    chosen = _arguments(words)
    settings = Settings(
        threads=chosen.threads or Settings().threads,
        rounds=chosen.rounds,
        quick=chosen.quick,
        scale=chosen.scale,
        cache=chosen.cache,
        install=not chosen.no_install,
    )
    failed, all_rows = False, list[Row]()
    for name in chosen.names or BENCHMARKS:
        print(f"# {name}: {BENCHMARKS[name]}", file=sys.stderr, flush=True)
        module = importlib.import_module(f"benchmarks.{name.replace('-', '_')}")
        try:
            found: list[Row] = module.rows(settings)
        except (SideFailedError, ValueError) as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            failed = True
            continue
        command = " ".join(["python -m benchmarks", name, *_flags(chosen)])
        keep(name, found, facts(command, settings), chosen.out)
        all_rows += found
        for row in found:
            print(table_line(row), file=sys.stderr if chosen.json else None, flush=True)
    if chosen.json:
        print(json.dumps(summary(all_rows, ok=not failed)))
    return int(failed)


def summary(found: list[Row], *, ok: bool) -> dict[str, Any]:
    """What `nightcap bench --json` says of these rows."""
    names = ("name", "ours", "peer", "ratio", "limit_share")
    results = [{name: getattr(row, name) for name in names} for row in found]
    return {"command": "bench", "ok": ok, "results": results}


def _flags(chosen: argparse.Namespace) -> list[str]:
    named = [("--threads", chosen.threads), ("--rounds", chosen.rounds), ("--scale", chosen.scale)]
    return [f"{name} {value:g}" for name, value in named if value] + ["--quick"] * chosen.quick


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME")
    parser.add_argument("--threads", type=int, default=0, help="of every side; all cores")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the usual items")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, meaningless figures")
    parser.add_argument("--cache", type=Path, default=CACHE, help="peers and made inputs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--json", action="store_true", help="one object as the last line")
    parser.add_argument("--no-install", action="store_true", help="only peers that are there")
    parser.epilog = "; ".join(f"{name}: {about}" for name, about in BENCHMARKS.items())
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
