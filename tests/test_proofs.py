"""A seeded sample of every proof, each by the command that runs the whole of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proofs.__main__ import PROOFS
from proofs.flaky import cases
from proofs.steps import local_steps
from proofs.stores import collect, contents, identities, keep_versions
from storage.commit import create, replace
from storage.urls import join

REPOSITORY = Path(__file__).parent.parent
MINE = ["K1", "F1", "F2", "R1", "D1", "K2", "K3", "T1", "C1", "X1", "I1", "I2"]


def prove(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "proofs", *words],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MINE)
def test_a_sample_of_the_proof_holds(name: str, tmp_path: Path) -> None:
    done = prove(name, "--quick", "--out", str(tmp_path / "results.json"))
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


def test_what_holds_is_kept_and_what_does_not_is_tried_again(tmp_path: Path) -> None:
    out, table = tmp_path / "results.json", tmp_path / "page.md"
    kept = {"T1 quick": {"ok": True, "seconds": 1.5, "cases": 7, "silent": []}}
    out.write_text(json.dumps(kept))
    table.write_text("before\n<!-- table -->\nstale\n<!-- end -->\nafter\n")
    done = prove("T1", "--quick", "--out", str(out), "--table", str(table))
    assert json.loads(done.stdout)["cases"] == 7
    assert done.returncode == 0
    page = table.read_text()
    assert "| T1 | the tar table, cuts and flipped headers | sample | yes | 1.5 | cases 7" in page
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "stale" not in page


def test_an_unknown_proof_is_refused() -> None:
    done = prove("Z9")
    assert done.returncode == 2
    assert "no proof is called 'Z9'" in done.stderr


def test_every_step_of_a_write_is_met_in_order(tmp_path: Path) -> None:
    """A step that nobody counts is one at which nobody is ever killed."""
    seen: list[str] = []

    def note(operation: str, moment: str) -> None:
        if operation not in ("open", "scandir", "stat") and moment != "after":
            seen.append(operation if moment == "before" else f"{operation} {moment}")

    with local_steps(tmp_path, note):
        create(f"{tmp_path}/a.json", b"xx")
        replace(f"{tmp_path}/a.json", b"yy")
    one = ["mkdir", "create", "write", "write short", "fsync"]
    assert seen == [*one, "link", "unlink", "fsync", *one, "replace", "unlink", "fsync"]


def test_every_operation_of_the_flaky_disk_is_tried_at_thirty_calls() -> None:
    assert len(cases()) == len(set(cases())) == 30 * (2 * (10 + 6) + 1)
    assert set(MINE) <= set(PROOFS)


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_file_is_told_from_an_equal_one_in_its_place(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Equal bytes alone never show that a shard was done twice."""
    root = str(tmp_path) if kind == "local" else request.getfixturevalue("s3_root")
    keep_versions(root)
    for name in ("again.json", "once.json"):
        create(join(root, "shards", name), b"x")
    before, held = identities(root), contents(root)
    replace(join(root, "shards", "again.json"), b"x")
    after = identities(root)
    assert contents(root) == held
    assert before.keys() == after.keys() == held.keys()
    assert {name for name, one in before.items() if after[name] != one} == {"shards/again.json"}


def test_the_litter_of_a_proof_is_what_gc_finds(tmp_path: Path) -> None:
    root = str(tmp_path)
    left = [f".{'0' * 32}.partial", "embeddings/e-0/0000/00000-0123456789abcdef.parquet"]
    for name in [*left, "embeddings/e-0/encoder.json"]:
        replace(join(root, name), b"x")
    assert collect(root) == len(left)
    assert list(contents(root)) == ["embeddings/e-0/encoder.json"]
