"""V1: of many small tamperings with a finished root, `verify` must find every single one.

Of 13 tamperings 10 are a bit flipped in any file, one a file deleted, one two files exchanged, and
one a receipt edited by hand, half of those with a digest made to fit.
"""

import argparse
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proofs.whole_root import make_whole_root
from storage.fingerprint import fingerprint
from storage.verify import verify

Saved = dict[Path, bytes]
KINDS = ("flip",) * 10 + ("delete", "swap", "edit")


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Tamper `count` times with one root in `scratch`, restored in between; what was found.

    Results are kept line by line, so that a proof that was stopped goes on.
    """
    root, log = _fresh(scratch), scratch / f"tamper-{seed}.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    clean = [one.sentence for one in verify(str(root)).breaches]
    with log.open("a", encoding="utf-8") as file:
        for number in range(len(done), count):
            done.append(_once(root, number, random.Random(f"{seed}:{number}")))
            file.write(json.dumps(done[-1]) + "\n")
            file.flush()
    tried: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for one in done[:count]:
        tried[one["kind"]] += 1
        found[one["kind"]] += one["found"]
    return {
        "proof": "V1",
        "ok": not clean and found.total() == count,
        "tampered": count,
        "found": found.total(),
        "by_kind": {kind: f"{found[kind]} of {tried[kind]}" for kind in tried},
        "missed": [one for one in done[:count] if not one["found"]],
        "breaches_without_tampering": clean,
        "named": sum(one["named"] for one in done[:count]),
    }


def _fresh(scratch: Path) -> Path:
    """A root as it was made, whatever an earlier proof left."""
    made = scratch / "made"
    if not (made / "done").exists():
        shutil.rmtree(made, ignore_errors=True)
        make_whole_root(made)
        (made / "done").touch()
        shutil.copytree(made / "root", scratch / "copy", dirs_exist_ok=True)
    shutil.rmtree(made / "root")
    shutil.copytree(scratch / "copy", made / "root")
    return made / "root"


def _once(root: Path, number: int, rng: random.Random) -> dict[str, Any]:
    kind = KINDS[number % len(KINDS)]
    files = sorted(path for path in root.rglob("*") if path.is_file())
    began = time.perf_counter()
    with _restored() as saved:
        what = _TAMPER[kind](files, rng, saved)
        verdict = verify(str(root))
        touched = {path.relative_to(root).as_posix() for path in saved}
    return {
        "number": number,
        "kind": kind,
        "what": what.replace(str(root), "ROOT"),
        "found": not verdict.ok,
        "named": any(one.url in touched for one in verdict.breaches),
        "first": verdict.breaches[0].sentence if verdict.breaches else "",
        "seconds": round(time.perf_counter() - began, 3),
    }


@contextmanager
def _restored() -> Iterator[Saved]:
    saved: Saved = {}
    try:
        yield saved
    finally:
        for path, data in saved.items():
            path.write_bytes(data)


def _flip(files: list[Path], rng: random.Random, saved: Saved) -> str:
    path = rng.choice([path for path in files if path.stat().st_size])
    saved[path] = path.read_bytes()
    data, bit = bytearray(saved[path]), rng.randrange(8 * len(saved[path]))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(data))
    return f"bit {bit} of {path}"


def _delete(files: list[Path], rng: random.Random, saved: Saved) -> str:
    path = rng.choice(files)
    saved[path] = path.read_bytes()
    path.unlink()
    return f"{path}"


def _swap(files: list[Path], rng: random.Random, saved: Saved) -> str:
    """Two files of one ending, as a careless copy would."""
    while True:
        one = rng.choice(files)
        others = [path for path in files if path.suffix == one.suffix and path != one]
        other = rng.choice(others) if others else one
        if one.read_bytes() != other.read_bytes():
            break
    saved.update({one: one.read_bytes(), other: other.read_bytes()})
    one.write_bytes(saved[other])
    other.write_bytes(saved[one])
    return f"{one} and {other}"


def _edit(files: list[Path], rng: random.Random, saved: Saved) -> str:
    receipts = [path for path in files if b'"fingerprint"' in path.read_bytes()[: 1 << 16]]
    receipts = [path for path in receipts if path.suffix == ".json" and _is_receipt(path)]
    path, edit = rng.choice(receipts), rng.choice(_EDITS)
    saved[path] = path.read_bytes()
    body = json.loads(saved[path])
    digest = body.pop("digest")
    edit(body)
    forged = rng.random() < 0.5
    body["digest"] = fingerprint(body) if forged else digest
    path.write_text(json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return f"{edit.__name__} in {path}{', its digest made to fit' if forged else ''}"


def _is_receipt(path: Path) -> bool:
    return {"stage", "shard", "files", "inputs"} <= set(json.loads(path.read_bytes()))


def _another_hash(body: dict[str, Any]) -> None:
    body["files"][-1]["sha256"] = "0" * 64


def _another_size(body: dict[str, Any]) -> None:
    body["files"][0]["size"] += 1


def _another_fingerprint(body: dict[str, Any]) -> None:
    body["fingerprint"] = fingerprint({"edited": body["fingerprint"]})


def _another_shard(body: dict[str, Any]) -> None:
    body["shard"] = f"{body['shard']}0"


def _another_generation(body: dict[str, Any]) -> None:
    body["generation"] += 1


def _another_stage(body: dict[str, Any]) -> None:
    body["stage"] = "evaluate"


def _more_files(body: dict[str, Any]) -> None:
    body["files"].append({"url": "captions/none.parquet", "size": 1, "sha256": "", "stamp": ""})


_EDITS: tuple[Callable[[dict[str, Any]], None], ...] = (
    _another_hash,
    _another_size,
    _another_fingerprint,
    _another_shard,
    _another_generation,
    _another_stage,
    _more_files,
)
_TAMPER: dict[str, Callable[[list[Path], random.Random, Saved], str]] = {
    "flip": _flip,
    "delete": _delete,
    "swap": _swap,
    "edit": _edit,
}


def main() -> None:
    """Run the proof; the figures are one JSON object on standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=260)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scratch", type=Path, default=Path("proofs-scratch") / "tamper")
    chosen = parser.parse_args()
    chosen.scratch.mkdir(parents=True, exist_ok=True)
    found = prove(chosen.count, chosen.seed, chosen.scratch)
    print(json.dumps(found, indent=1))
    sys.exit(0 if found["ok"] else 1)


if __name__ == "__main__":
    main()
