"""verify: a sound root passes, every small tampering is found, what is only undone is no breach."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from proofs.tamper import prove
from proofs.whole_root import make_whole_root
from storage.commit import replace
from storage.garbage import garbage
from storage.layout import open_root
from storage.urls import folders, join
from storage.verify import verify

COMMAND = [sys.executable, "-W", "ignore", "-c", "from flows.cli import main; main()", "verify"]
DAY = 86_400.0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whole_root(tmp_path_factory.mktemp("whole"), 6)


def flip(path: Path, place: int) -> bytes:
    data = path.read_bytes()
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    return data


def test_a_sound_root_has_no_breach_and_everything_was_looked_at(whole: Path) -> None:
    verdict = verify(str(whole))
    assert (verdict.breaches, verdict.unfinished) == ([], [])
    assert verdict.files > 50
    assert verdict.rows > 50


def test_the_command_says_what_is_wrong_where_and_how_to_mend_it(whole: Path) -> None:
    tar = whole / "shards" / "0000" / "00000.tar"
    data = flip(tar, 700)
    try:
        found = subprocess.run(
            [*COMMAND, str(whole), "--json"], check=False, capture_output=True, text=True
        )
    finally:
        tar.write_bytes(data)
    assert found.returncode == 1
    facts = json.loads(found.stdout.splitlines()[-1])
    assert not facts["ok"]
    assert {
        "url": "shards/0000/00000.tar",
        "what": "its bytes are not those of its receipt",
        "mend": "remove it and run `nightcap shard` with its source again",
    } in facts["breaches"]


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_a_day_off_changes_nothing(whole: Path, days: int) -> None:
    """Neither what is done, nor what is sound, nor what may go is told by a file's time."""
    before = told("status", whole)
    assert before["stages"]
    move_times(whole, days)
    try:
        assert told("status", whole) == before
        assert verify(str(whole)).ok
        assert garbage(open_root(str(whole)), 0.0, time.time() + 2 * DAY) == []
    finally:
        move_times(whole, -days)


def move_times(root: Path, days: int) -> None:
    for path in root.rglob("*"):
        changed = path.stat().st_mtime + days * DAY
        os.utime(path, (changed, changed))


def told(command: str, root: Path) -> dict[str, Any]:
    """What a command says of the root in JSON."""
    done = subprocess.run(
        [*COMMAND[:-1], command, str(root), "--json"], check=True, capture_output=True, text=True
    )
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def test_quick_sees_sizes_and_receipts_but_no_flipped_bit(whole: Path) -> None:
    tar = whole / "shards" / "0000" / "00000.tar"
    data = flip(tar, 700)
    try:
        assert verify(str(whole), quick=True).ok
        tar.write_bytes(data[:-1])
        (breach,) = verify(str(whole), quick=True).breaches
        assert "bytes, not the" in breach.what
    finally:
        tar.write_bytes(data)


def test_work_that_was_never_done_is_no_breach(whole: Path, tmp_path: Path) -> None:
    space = folders(join(str(whole), "embeddings"))[0]
    undone = {whole / "captions": "captions", whole / "embeddings" / space / "0001": "embeddings"}
    replace(str(whole / "shards" / "0009" / "plan-0123456789abcdef.parquet"), b"cut off")
    for folder, name in undone.items():
        folder.rename(tmp_path / name)
    try:
        verdict = verify(str(whole))
        assert [one.sentence for one in verdict.breaches] == []
        assert any("embed 0001/" in work for work in verdict.unfinished)
    finally:
        for folder, name in undone.items():
            (tmp_path / name).rename(folder)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sample_of_tamperings_is_found_without_exception(tmp_path: Path) -> None:
    found = prove(65, 20, tmp_path)
    assert found["missed"] == []
    assert found["ok"]
