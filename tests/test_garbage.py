"""gc: litter goes, whatever a receipt names or somebody may still write stays."""

import os
from pathlib import Path

import fsspec
import pytest

from proofs.whole_root import make_whole_root
from storage.commit import replace
from storage.garbage import garbage, take_away
from storage.layout import Root, open_root
from storage.models import model_settings
from storage.urls import folders, join, listing, stat
from storage.verify import verify

DAY = 86_400.0
PARTIAL = f".{'0' * 32}.partial"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Root:
    return open_root(str(make_whole_root(tmp_path_factory.mktemp("whole"), 6)))


def files(root: Root) -> set[str]:
    return {str(path) for path in Path(root.url).rglob("*") if path.is_file()}


def litter(root: Root, place: str) -> str:
    url = join(root.url, place)
    replace(url, b"left behind")
    os.utime(url, (1.0, 1.0))
    return url


def far_from_now(root: Root) -> float:
    return max(Path(name).stat().st_mtime for name in files(root)) + 30 * DAY


def test_a_finished_root_has_no_garbage_however_old(whole: Root) -> None:
    assert garbage(whole, DAY, far_from_now(whole)) == []


def test_all_kinds_of_litter_go_and_nothing_else(whole: Root) -> None:
    before = files(whole)
    space = folders(join(whole.url, "embeddings"))[0]
    run = folders(join(whole.url, "captions"))[0]
    (model,) = folders(join(whole.url, "models"))
    (version,) = [
        one.name
        for one in [model_settings(whole, model).read(name) for name in folders(whole.model(model))]
        if one
    ]
    left = {
        litter(whole, f"shards/0000/{PARTIAL}"): "partial",
        litter(whole, f"models/{model}/{version}/{PARTIAL}"): "partial",
        litter(whole, PARTIAL): "partial",
        litter(whole, f"embeddings/{space}/0000/00000-0123456789abcdef.parquet"): "data",
        litter(whole, f"captions/{run}/0000/00000-0123456789abcdef.parquet"): "data",
        litter(whole, "shards/0000/plan-0123456789abcdef.parquet"): "plan",
        litter(whole, "shards/0009/plan-0123456789abcdef.parquet"): "plan",
        litter(whole, f"models/{model}/{version}/checkpoints/step-2.pt"): "checkpoint",
    }
    found = garbage(whole, DAY, 10 * DAY)
    assert {one.url: one.kind for one in found} == left
    assert all(one.size == len(b"left behind") for one in found)
    take_away(found)
    assert files(whole) == before
    assert verify(whole.url).ok


def test_what_is_young_may_be_somebodys_half_made_work(whole: Root) -> None:
    url = litter(whole, f"shards/0000/{PARTIAL}")
    assert garbage(whole, DAY, 1.0 + DAY / 2) == []
    assert [one.url for one in garbage(whole, DAY, 2.0 + DAY)] == [url]
    Path(url).unlink()


def test_beside_a_receipt_that_cannot_be_read_everything_stays(whole: Root) -> None:
    space = folders(join(whole.url, "embeddings"))[0]
    folder = whole.embeddings(space, "0000")
    receipt = Path(folder) / "00000.json"
    genuine = receipt.read_bytes()
    receipt.write_bytes(genuine[:-20])
    try:
        assert not [one for one in garbage(whole, 0, far_from_now(whole)) if one.kind == "data"]
    finally:
        receipt.write_bytes(genuine)
    assert len(listing(folder)) > 1


def test_what_a_killed_question_to_a_store_leaves_goes(s3_root: str) -> None:
    root = open_root(s3_root)
    replace(join(root.url, PARTIAL), b"first")
    now = stat(join(root.url, PARTIAL)).changed + DAY
    assert garbage(root, DAY, now) == []
    (found,) = garbage(root, 60, now)
    assert found.kind == "partial"
    take_away([found])
    assert garbage(root, 0, now) == []


def test_an_upload_that_nobody_completed_is_forgotten(s3_root: str) -> None:
    root = open_root(s3_root)
    replace(join(root.url, "shards/0000/00000.tar"), b"whole")
    fs = fsspec.filesystem("s3")
    bucket = s3_root.removeprefix("s3://").split("/")[0]
    for key in ("root/captions/r/0000/00000-ab.parquet", "rooted/other.parquet"):
        begun = fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)
        fs.call_s3(
            "upload_part",
            Bucket=bucket,
            Key=key,
            UploadId=begun["UploadId"],
            PartNumber=1,
            Body=b"half",
        )
    (found,) = garbage(root, 0, float("inf"))
    assert (found.kind, found.url) == ("upload", f"{root.url}/captions/r/0000/00000-ab.parquet")
    take_away([found])
    take_away([found])
    assert garbage(root, 0, float("inf")) == []
    assert len(fs.list_multipart_uploads(bucket)) == 1, "another root's is not ours to touch"
    assert stat(join(root.url, "shards/0000/00000.tar"))


def test_an_upload_is_found_where_the_root_is_a_bucket_itself(s3_root: str) -> None:
    bucket = s3_root.removeprefix("s3://").split("/")[0]
    root = open_root(f"s3://{bucket}")
    fs = fsspec.filesystem("s3")
    fs.call_s3("create_multipart_upload", Bucket=bucket, Key="shards/0000/00000.tar")
    (found,) = garbage(root, 0, float("inf"))
    assert (found.kind, found.url) == ("upload", f"{root.url}/shards/0000/00000.tar")
    take_away([found])
    assert not fs.list_multipart_uploads(bucket)
