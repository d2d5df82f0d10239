"""Run the proofs, each by itself; what is finished is kept and not run again.

python -m proofs [NAME ...] [--quick] [--out FILE] [--table FILE] [--again]
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SEED = 1


@dataclass(frozen=True, slots=True)
class Proof:
    """One module under `proofs` whose `prove(count, seed, scratch)` gives figures."""

    module: str
    whole: int
    """Its whole count; 0 is every case there is."""
    quick: int
    """The seeded sample that the slow tests run."""
    says: str


PROOFS = {
    "K1": Proof("kill_steps", 0, 12, "killed at every step of the commit protocol"),
    "F1": Proof("flaky", 0, 60, "each operation of a disk fails at its n-th call"),
    "F2": Proof("storm", 10, 1, "503, resets, lost replies and 409 of an S3 server"),
    "R1": Proof("races", 20, 1, "8 processes do the same 20 shards at once"),
    "D1": Proof("full_disk", 20, 4, "the disk is full"),
    "K2": Proof("kill_groups", 50, 3, "the process group killed at a random moment"),
    "K3": Proof("kill_lanes", 10, 2, "a lane killed in the middle of its shard"),
    "T1": Proof("tars", 213, 60, "the tar table, cuts and flipped headers"),
    "C1": Proof("changes", 5, 5, "a changed setting, weight or byte"),
    "X1": Proof("canaries", 0, 0, "traps in every input and secrets in every URL"),
    "I1": Proof("zoo", 1000, 100, "malformed pictures among nine times as many good ones"),
    "I2": Proof("mutated", 13_500, 900, "mutated files, their time and memory"),
    "V1": Proof("tamper", 260, 13, "a finished root tampered with"),
    "N1": Proof("nights", 2000, 60, "two nights of a real server and worker, and a third at once"),
}


def main() -> int:
    """0 if every proof that was asked for holds."""
    parser = argparse.ArgumentParser(prog="python -m proofs", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PROOFS)}; none is all")
    parser.add_argument("--quick", action="store_true", help="a seeded sample of each")
    parser.add_argument("--out", type=Path, default=Path("proofs-results.json"))
    parser.add_argument("--table", type=Path, help="a page whose table is brought up to date")
    parser.add_argument("--again", action="store_true", help="also what is finished")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(PROOFS):
        parser.error(f"no proof is called {min(unknown)!r}: there are {', '.join(PROOFS)}")
    results = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    names = chosen.names or [name for name in PROOFS if _there(name)]
    for name in names:
        key = f"{name} quick" if chosen.quick else name
        if chosen.again or not results.get(key, {}).get("ok"):
            results[key] = _run(name, quick=chosen.quick)
            chosen.out.write_text(json.dumps(results, indent=1) + "\n")
        print(json.dumps({"name": key, **results[key]}), flush=True)
    if chosen.table:
        chosen.table.write_text(_with_table(chosen.table.read_text(), results))
    keys = [f"{name} quick" if chosen.quick else name for name in names]
    return 0 if all(results[key]["ok"] for key in keys) else 1


def _there(name: str) -> bool:
    return find_spec(f"proofs.{PROOFS[name].module}") is not None


def _run(name: str, *, quick: bool) -> dict[str, Any]:
    proof = PROOFS[name]
    if not _there(name):
        return {"ok": False, "seconds": 0, "error": "this proof is not part of this tree"}
    prove = import_module(f"proofs.{proof.module}").prove
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="nightcap-proof-") as scratch:
        found: dict[str, Any] = prove(proof.quick if quick else proof.whole, SEED, Path(scratch))
    return found | {"seconds": round(time.perf_counter() - began, 1)}


def _with_table(page: str, results: dict[str, Any]) -> str:
    """`page` with what was run between its two marks."""
    before, _, rest = page.partition("<!-- table -->\n")
    after = rest.partition("<!-- end -->")[2]
    lines = ["| proof | what happens | run | holds | seconds | seen |", "|---|---|---|---|---|---|"]
    for name, proof in PROOFS.items():
        for key in (name, f"{name} quick"):
            if key in results:
                run = "sample" if key != name else "whole"
                one = results[key]
                hidden = ("proof", "ok", "seconds")
                seen = ", ".join(_told(k, v) for k, v in one.items() if k not in hidden)
                holds = "yes" if one["ok"] else "**no**"
                cells = (name, proof.says, run, holds, str(one["seconds"]), seen)
                lines.append(f"| {' | '.join(cells)} |")
                break
        else:
            lines.append(f"| {name} | {proof.says} | not run | | | |")
    table = "\n".join(lines)
    return f"{before}<!-- table -->\n{table}\n<!-- end -->{after}"


def _told(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"{name} ({', '.join(_told(*one) for one in value.items())})"
    return f"{name} {len(value) if isinstance(value, list) else value}".replace("_", " ")


if __name__ == "__main__":
    sys.exit(main())
