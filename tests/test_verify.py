"""verify: a sound root passes, every small tampering is found, what is only undone is no breach."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from proofs.tamper import prove
from proofs.whole_root import make_whole_root
from storage.commit import replace
from storage.urls import folders, join
from storage.verify import verify

COMMAND = [sys.executable, "-W", "ignore", "-c", "from flows.cli import main; main()", "verify"]


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
