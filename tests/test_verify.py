"""verify: a sound root passes, every small tampering is found, what is only undone is no breach."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from proofs.small_run import ONE_THREAD, caption_all, draw, finish
from proofs.tamper import prove
from proofs.whole_root import make_whole_root
from storage.commit import replace
from storage.edits import Edit, EditLog
from storage.embeddings import embedding_settings
from storage.fingerprint import fingerprint
from storage.garbage import garbage
from storage.layout import open_root
from storage.urls import folders, join
from storage.verify import verify
from tasks.options import CaptionOptions

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


def one(root: Path, pattern: str) -> Path:
    """The first file of a copy of the root that has such a name."""
    return min(root.glob(pattern))


def copy_of(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "root"))


@pytest.mark.parametrize("pattern", ["edits/*/*/*.json", "edits/*/originals/*/*.parquet"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_flipped_bit_in_what_reviewers_decided_is_told(
    whole: Path, pattern: str, share: float
) -> None:
    """Nothing else holds their decisions, nor the rows as they were before."""
    path = one(whole, pattern)
    data = flip(path, int(path.stat().st_size * share))
    try:
        (breach,) = verify(str(whole)).breaches
    finally:
        path.write_bytes(data)
    assert breach.url == path.relative_to(whole).as_posix()
    assert "restore it from a copy" in breach.mend


def test_a_damaged_decision_is_told_even_in_a_quick_look(whole: Path) -> None:
    path = one(whole, "edits/*/*/*.json")
    data = flip(path, 200)
    try:
        (breach,) = verify(str(whole), quick=True).breaches
    finally:
        path.write_bytes(data)
    assert breach.what == "it is no whole file of reviewers' decisions"


@pytest.mark.parametrize("pattern", ["edits/*/*/*.json", "edits/*/originals/*/*.parquet"])
def test_a_decision_or_original_that_is_gone_is_told_and_its_mend_can_be_followed(
    whole: Path, pattern: str, tmp_path: Path
) -> None:
    root = copy_of(whole, tmp_path)
    path = one(root, pattern)
    path.unlink()
    breaches = verify(str(root)).breaches
    assert breaches
    for breach in breaches:
        assert breach.what.startswith("decisions changed 1 of its rows, and those of 0 are here")
        assert f"restore `{path.relative_to(root).parts[0]}/{path.relative_to(root).parts[1]}`" in (
            breach.mend
        )
        assert "remove all receipts of the shard there, run `nightcap caption`" in breach.mend
        (root / breach.url).unlink()
        (root / breach.url.replace(".g1.", ".")).unlink()
    place = open_root(str(root))
    (space,) = [found for found in embedding_settings(place).kept() if found.name[:4] == "size"]
    caption_all(place, space, CaptionOptions(model="size", compute=ONE_THREAD))
    assert verify(str(root)).breaches == []


def test_decisions_lost_from_between_others_are_told_and_can_be_gone_on_without(
    whole: Path, tmp_path: Path
) -> None:
    root = copy_of(whole, tmp_path)
    log = EditLog(open_root(str(root)), one(root, "edits/*").name)
    for number in range(3):
        log.add(
            [
                Edit(
                    id=f"{number + 100:032x}",
                    shard="0000/00002",
                    key="a",
                    action="reject",
                    by="ann",
                    at=log.now(),
                )
            ]
        )
    assert verify(str(root)).ok
    last = one(root, "edits/*/*/000002.json")
    lost = last.with_name("000001.json")
    lost.unlink()
    (breach,) = verify(str(root)).breaches
    assert breach.url == lost.relative_to(root).as_posix()
    assert "put the last file of its folder in its place" in breach.mend
    last.rename(lost)
    assert verify(str(root)).ok


def test_a_superseded_generation_is_looked_at_too(whole: Path, tmp_path: Path) -> None:
    root = copy_of(whole, tmp_path)
    receipt = one(root, "embeddings/nano-*/0001/00000.json")
    body = json.loads(receipt.read_bytes())
    data = root / body["files"][0]["url"]
    kept = flip(data, 100)
    assert data.relative_to(root).as_posix() in {found.url for found in verify(str(root)).breaches}
    data.unlink()
    assert not verify(str(root)).ok
    data.write_bytes(kept)
    assert verify(str(root)).ok
    del body["digest"]
    body["rows"] += 1
    body["digest"] = fingerprint(body)
    text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    receipt.write_text(text)
    (breach,) = verify(str(root)).breaches
    assert breach.what == "it is not the receipt that the next generation was made from"


def test_work_that_was_done_anew_from_other_pictures_is_no_breach(tmp_path: Path) -> None:
    """A lost tar is cut again from what the source holds by then, under its old name."""
    source, root = draw(tmp_path / "pictures", 5), tmp_path / "root"
    finish(source, str(root))
    tar = root / "shards/0000/00000.tar"
    tar.unlink()
    (source / "00000.png").write_bytes((source / "00001.png").read_bytes())
    finish(source, str(root))
    assert tar.with_suffix(".g1.json").exists()
    assert list(root.glob("captions/*/0000/00000.g1.json"))
    assert [one.sentence for one in verify(str(root)).breaches] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sample_of_tamperings_is_found_without_exception(tmp_path: Path) -> None:
    found = prove(65, 20, tmp_path)
    assert found["missed"] == []
    assert found["ok"]
