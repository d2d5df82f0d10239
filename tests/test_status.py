"""status: each stage and batch, what is done, missing, stale and failed, and why."""

import shutil
from pathlib import Path

import pytest

from flows.status import status
from proofs.whole_root import make_whole_root
from storage.layout import open_root
from storage.lock import held


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whole_root(tmp_path_factory.mktemp("whole"), 6)


def test_a_finished_root_is_done_in_every_batch_and_names_failed_pictures(whole: Path) -> None:
    found = status(str(whole))
    assert found["ok"]
    assert [line["stage"] for line in found["stages"]].count("caption") == 2
    for line in found["stages"]:
        assert list(line["batches"]) == ["0000", "0001", "0002"]
        for batch in line["batches"].values():
            assert batch["done"] == batch["shards"] > 0
            assert (batch["missing"], batch["stale"]) == (0, 0)
        assert line["failures"] == {"not_image": 2}, "the later ingest saw a newer file"
        assert line["batches"]["0000"]["failed"] == 1


def test_a_touched_tar_makes_its_shard_stale_and_a_lost_receipt_makes_one_missing(
    whole: Path,
) -> None:
    tar, receipt = whole / "shards/0000/00000.tar", whole / "shards/0001/00000.json"
    saved = {path: path.read_bytes() for path in (tar, receipt)}
    tar.write_bytes(saved[tar][:-512])
    receipt.unlink()
    try:
        line = status(str(whole))["stages"][0]
    finally:
        for path, data in saved.items():
            path.write_bytes(data)
    assert line["stale"] == {"0000/00000": "shards/0000/00000.tar is not what it was"}
    assert line["batches"]["0000"]["stale"] == 1
    assert line["batches"]["0001"]["missing"] == 1


def test_whoever_writes_at_the_moment_is_named(whole: Path) -> None:
    with held(open_root(str(whole)), "run"):
        assert "`nightcap run`" in status(str(whole))["lock"]
    assert status(str(whole))["lock"] == ""


def test_a_run_whose_embeddings_are_gone_is_stale(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(whole, root)
    for space in (root / "embeddings").glob("size-*"):
        shutil.rmtree(space)
    found = status(str(root))
    (line,) = [one for one in found["stages"] if one["of"].startswith("size")]
    assert not found["ok"]
    assert line["stage"] == "caption"
    assert set(line["stale"].values()) == {"its embeddings are gone"}
    assert len(line["stale"]) == line["shards"] > 0
