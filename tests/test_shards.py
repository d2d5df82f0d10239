import hashlib
import io
import json
import os
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from botocore.exceptions import ClientError
from fsspec.implementations.memory import MemoryFileSystem
from planning import plan_batch

from storage.errors import ConfigurationError, ShardError, StoreUnavailable, TarError
from storage.layout import ShardName, open_root
from storage.plan import Plan, ShardOptions, plan_new, read_plan
from storage.receipts import Receipt
from storage.schema import INDEX
from storage.shards import HeaderFacts, Sample, ShardStore
from storage.sources import Source, SourceItem, open_source

GOOD = b"picture "


def judge(data: bytes) -> HeaderFacts:
    """A reader of headers for pictures that are the word `picture` and any number of letters."""
    if not data:
        return HeaderFacts(None, None, None, "error", "empty", "the file has no bytes")
    if not data.startswith(GOOD):
        return HeaderFacts(None, None, None, "error", "not_image", "no picture")
    return HeaderFacts(len(data), 7, "PNG")


class Ingest:
    """A source, a root beside it, and what is made of the one under the other."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}-pictures"
        self.fs, self.top = fsspec.url_to_fs(self.url)
        self.root = open_root(url)
        self.store = ShardStore(self.root)

    def put(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            path = f"{self.top}/{name}"
            self.fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self.fs.pipe_file(path, data)

    def plan(self, pattern: str = "", per_shard: int = 3) -> tuple[Plan, Source]:
        source = open_source(self.url + pattern, exclude=self.root.url)
        plan = plan_batch(self.root, source, ShardOptions(samples_per_shard=per_shard))
        assert plan is not None
        return plan, source

    def run(self, pattern: str = "") -> Plan:
        plan, source = self.plan(pattern)
        for stem in plan.shards():
            if plan.kind == "tars":
                self.store.adopt(plan, stem, judge)
            else:
                self.store.cut(plan, stem, source, judge)
        return plan

    def files(self) -> dict[str, bytes]:
        found = self.fs.find(fsspec.url_to_fs(self.root.url)[1])
        return {name.rsplit("/", 1)[-1]: self.fs.cat_file(name) for name in found}

    def samples(self, plan: Plan) -> list[Sample]:
        return [one for stem in plan.shards() for one in self.store.samples(plan.shard(stem))]


@pytest.fixture
def ingest(root_url: str) -> Ingest:
    return Ingest(root_url)


@pytest.fixture
def local(tmp_path: Path) -> Ingest:
    return Ingest(str(tmp_path / "root"))


def fill(ingest: Ingest) -> None:
    ingest.put({"a.jpg": GOOD + b"a", "a.txt": b"x\ny", "b.png": GOOD, "f.gif": GOOD * 9})
    ingest.put({"c/d.jpg": b"nonsense", "c/e.jpg": b""})


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def status(samples: list[Sample]) -> list[tuple[str, str, bytes | None]]:
    return [(one.row["path"], one.row["error_code"], one.image) for one in samples]


def test_every_planned_picture_is_a_row_and_all_bytes_are_kept(ingest: Ingest) -> None:
    fill(ingest)
    plan = ingest.run()
    samples = ingest.samples(plan)
    assert status(samples) == [
        ("a.jpg", "", GOOD + b"a"),
        ("b.png", "", GOOD),
        ("c/d.jpg", "not_image", b"nonsense"),
        ("c/e.jpg", "empty", b""),
        ("f.gif", "", GOOD * 9),
    ]
    row = samples[0].row
    assert row["key"] == hashlib.blake2b(b"a.jpg", digest_size=8).hexdigest()
    assert row["sha256"] == hashlib.sha256(GOOD + b"a").hexdigest()
    assert (row["n_bytes"], row["width"], row["height"], row["format"]) == (9, 9, 7, "PNG")
    assert (row["captions"], row["status"]) == (["x", "y"], "ok")
    assert samples[2].row["sha256"] == hashlib.sha256(b"nonsense").hexdigest()


def test_a_receipt_names_files_rows_and_failures(ingest: Ingest) -> None:
    fill(ingest)
    plan = ingest.run()
    first, second = (ingest.store.receipt(plan.shard(stem)) for stem in plan.shards())
    assert first is not None
    assert second is not None
    assert (first.rows, first.failures, second.failures) == (3, {"not_image": 1}, {"empty": 1})
    data = ingest.files()
    for facts in first.files:
        content = data[facts.url.rsplit("/", 1)[-1]]
        assert (facts.size, facts.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    tar, index, own = ingest.store.receipt_input(plan.shard("00000"))
    assert (tar, index) == first.files
    assert own.sha256 == hashlib.sha256(data["00000.json"]).hexdigest()
    record = ingest.store.receipts(plan.batch)["00000"]
    assert ingest.store.inputs_from(record) == (tar, index, own)
    assert ingest.store.made(plan) == {"00000", "00001"}
    assert set(ingest.store.receipts(plan.batch)) == {"00000", "00001"}


def test_the_index_has_exactly_its_schema(ingest: Ingest) -> None:
    fill(ingest)
    plan = ingest.run()
    (table,) = ingest.store.index(plan.shard("00000"))
    assert table.schema.equals(INDEX, check_metadata=False)
    assert table.schema.metadata[b"nightcap.schema_version"] == b"1"


def test_a_second_cut_writes_nothing(ingest: Ingest) -> None:
    fill(ingest)
    plan = ingest.run()
    before = ingest.files()
    source = open_source(ingest.url)
    ingest.put({"a.jpg": GOOD + b"changed after the plan was done"})
    for stem in plan.shards():
        ingest.store.cut(plan, stem, source, judge)
    assert ingest.files() == before


def test_a_cut_that_dies_anywhere_is_resumed_to_equal_bytes(tmp_path: Path) -> None:
    """Whichever file is the last one written, the next attempt ends with the same bytes."""
    whole = Ingest(str(tmp_path / "root"))
    fill(whole)
    whole.run()
    expected = whole.files()
    for left in range(4):
        again = Ingest(str(tmp_path / f"again{left}"))
        again.url, again.top = whole.url, whole.top
        plan, source = again.plan()
        folder = Path(plan.folder)
        for name in ["00000.tar", "00000.parquet", "00000.json"][:left]:
            (folder / name).write_bytes(expected[name])
        assert ("00000" in again.store.made(plan)) == (left == 3)
        for stem in plan.shards():
            again.store.cut(plan, stem, source, judge)
        assert again.files() == expected


def test_a_failing_store_stops_the_shard_and_leaves_nothing(local: Ingest) -> None:
    fill(local)
    plan, source = local.plan()

    class Flaky:
        """A source whose second read fails for a reason that may pass."""

        kind, base, facts, counted = source.kind, source.base, source.facts, source.counted

        def items(self) -> Iterator[SourceItem]:
            return source.items()

        def read(self, path: str) -> bytes:
            if path == "b.png":
                raise StoreUnavailable("the network went away")
            return source.read(path)

    before = set(local.files())
    with pytest.raises(StoreUnavailable):
        local.store.cut(plan, "00000", Flaky(), judge)
    assert set(local.files()) == before


def test_a_picture_that_was_gone_for_a_while_is_new_when_it_is_back(local: Ingest) -> None:
    fill(local)
    plan, source = local.plan(per_shard=10)
    aside = Path(local.top, "b.png").rename(Path(local.top).with_name("aside"))
    local.store.cut(plan, plan.shards()[0], source, judge)
    options = ShardOptions(samples_per_shard=10)
    assert plan_new(local.root, source, options) is None, "it is still gone"
    aside.rename(Path(local.top, "b.png"))
    again = plan_new(local.root, source, options)
    assert again is not None
    assert [row.path for row in again.rows("00000")] == ["b.png"]
    local.store.cut(again, "00000", source, judge)
    assert plan_new(local.root, source, options) is None


def test_a_link_to_nothing_is_planned_once(local: Ingest) -> None:
    fill(local)
    Path(local.top, "z.jpg").symlink_to("nowhere")
    plan = local.run()
    rows = [row for stem in plan.shards() for row in local.store.samples(plan.shard(stem))]
    assert status(rows)[-1] == ("z.jpg", "missing_member", None)
    assert plan_new(local.root, open_source(local.url), ShardOptions(samples_per_shard=3)) is None


@pytest.mark.parametrize("left", ["an empty mount point", "nothing"])
def test_a_source_that_is_gone_is_recorded_as_no_pictures_fault(local: Ingest, left: str) -> None:
    """Rows of missing pictures would stand when the disk is back."""
    fill(local)
    plan, source = local.plan()
    Path(local.top).rename(aside := Path(f"{local.top}-unmounted"))
    if left != "nothing":
        Path(local.top).mkdir()
    with pytest.raises(StoreUnavailable, match="is empty now: is it mounted"):
        local.store.cut(plan, "00000", source, judge)
    if left != "nothing":
        Path(local.top).rmdir()
    aside.rename(local.top)
    assert local.store.cut(plan, "00000", source, judge).failures == {"not_image": 1}


@pytest.mark.parametrize(
    ("code", "says"), [("ExpiredToken", "renew the credentials"), ("AccessDenied", None)]
)
def test_a_store_that_knows_us_no_more_is_not_a_missing_picture(
    code: str, says: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture of which only this one is kept from us is a row."""
    far = Ingest(f"memory://{tmp_path.name}/root")
    fill(far)
    plan, source = far.plan()
    monkeypatch.setattr(MemoryFileSystem, "cat_file", refuse(code))
    if says:
        with pytest.raises(ConfigurationError, match=says):
            source.read("a.jpg")
    else:
        with pytest.raises(FileNotFoundError, match="no permission"):
            source.read("a.jpg")
    assert plan.n_rows == 5


def refuse(code: str) -> Callable[..., bytes]:
    """What s3fs makes of such an answer of its store."""

    def cat_file(*_: object, **__: object) -> bytes:
        answer = {"Error": {"Code": code, "Message": "no"}}
        raise PermissionError("no") from ClientError(answer, "GetObject")

    return cat_file


def test_a_picture_that_cannot_be_read_is_a_row(local: Ingest) -> None:
    fill(local)
    plan, source = local.plan()
    Path(local.top, "b.png").unlink()
    local.store.cut(plan, "00000", source, judge)
    samples = list(local.store.samples(plan.shard("00000")))
    assert status(samples)[1] == ("b.png", "missing_member", None)
    assert samples[1].row["error_detail"] == "there is no such file"
    assert (samples[1].row["sha256"], samples[1].row["n_bytes"]) == (None, None)
    assert samples[2].image == b"nonsense", "the rows after it keep their pictures"


def test_a_picture_beyond_the_limit_is_a_row_and_is_not_read(local: Ingest) -> None:
    local.put({"a.jpg": GOOD, "b.jpg": GOOD * 2})
    plan, source = local.plan()
    store = replace(local.store, max_bytes=10)
    store.cut(plan, "00000", source, judge)
    found = status(list(store.samples(plan.shard("00000"))))
    assert found == [("a.jpg", "", GOOD), ("b.jpg", "too_large", None)]


def test_pictures_can_be_transformed_before_they_are_kept(local: Ingest) -> None:
    local.put({"a.jpg": GOOD + b"large"})
    plan, source = local.plan()
    local.store.cut(plan, "00000", source, judge, lambda data: data[:9])
    (sample,) = local.store.samples(plan.shard("00000"))
    assert (sample.image, sample.row["n_bytes"], sample.row["width"]) == (GOOD + b"l", 9, 9)


def test_a_plan_of_another_source_is_not_cut(local: Ingest, tmp_path: Path) -> None:
    """Every picture would be missing there, and the rows would say so for ever."""
    fill(local)
    plan, _ = local.plan()
    (tmp_path / "else").mkdir()
    with pytest.raises(ConfigurationError, match=r"was planned from .*, not from .*else"):
        local.store.cut(plan, "00000", open_source(str(tmp_path / "else")), judge)


def test_neither_place_nor_time_is_in_tar_index_or_receipt(tmp_path: Path) -> None:
    found = []
    for place in ("here", "there"):
        ingest = Ingest(str(tmp_path / place / "root"))
        fill(ingest)
        os.utime(f"{ingest.top}/a.jpg", (len(place), len(place)))
        ingest.run()
        files = ingest.files()
        found.append({name: data for name, data in files.items() if not name.startswith("plan")})
        assert not [name for name, data in found[-1].items() if str(tmp_path).encode() in data]
    assert found[0] == found[1]


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_webdataset_reads_our_shards(local: Ingest) -> None:
    fill(local)
    plan = local.run()
    pipeline = webdataset.WebDataset(f"{plan.folder}/{{00000..00001}}.tar", shardshuffle=False)
    found = {json.loads(one["json"])["path"]: one for one in pipeline}
    assert list(found) == ["a.jpg", "b.png", "c/d.jpg", "c/e.jpg", "f.gif"]
    assert found["a.jpg"]["jpg"] == GOOD + b"a"
    assert found["a.jpg"]["txt"] == b"x\ny"


def swap(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def test_a_tar_that_is_not_the_committed_one_gives_no_sound_samples(local: Ingest) -> None:
    fill(local)
    plan = local.run()
    tar = Path(plan.folder, "00000.tar")
    swap(tar, b"nonsense", b"nonSense")
    with pytest.raises(TarError, match="is not the file that its receipt names"):
        list(local.store.samples(plan.shard("00000")))
    tar.write_bytes(tar.read_bytes() + b"\0" * 512)
    with pytest.raises(TarError, match="has not the size"):
        next(local.store.samples(plan.shard("00000")))
    tar.unlink()
    with pytest.raises(ShardError, match="is missing"):
        next(local.store.samples(plan.shard("00000")))


def test_an_index_that_is_not_the_committed_one_is_refused(local: Ingest) -> None:
    fill(local)
    plan = local.run()
    index = Path(plan.folder, "00000.parquet")
    Path(plan.folder, "00001.parquet").replace(index)
    for read in (local.store.index, local.store.samples):
        with pytest.raises(ShardError, match="is not the index that its receipt names"):
            next(read(plan.shard("00000")))
    with pytest.raises(ShardError, match="not made yet"):
        next(local.store.samples(ShardName(plan.batch, "00009")))


def test_lost_files_are_put_back_as_they_were(local: Ingest) -> None:
    fill(local)
    plan = local.run()
    before = local.files()
    Path(plan.folder, "00000.tar").unlink()
    assert local.store.made(plan) == {"00001"}
    local.run()
    assert local.files() == before
    assert local.store.made(plan) == {"00000", "00001"}


def test_a_shard_that_must_be_cut_from_other_bytes_gets_a_new_generation(local: Ingest) -> None:
    """Captions made from the old bytes then know that they are out of date."""
    fill(local)
    plan = local.run()
    before = local.store.receipt_input(plan.shard("00000"))
    Path(plan.folder, "00000.tar").unlink()
    local.put({"a.jpg": GOOD + b"another"})
    receipt = local.store.cut(plan, "00000", open_source(local.url), judge)
    assert receipt.generation == 1
    assert Path(plan.folder, "00000.g1.json").exists()
    assert local.store.made(plan) == {"00000", "00001"}
    assert local.store.receipt_input(plan.shard("00000")) != before
    assert next(local.store.samples(plan.shard("00000"))).image == GOOD + b"another"


def test_tars_of_others_are_used_where_they_lie(ingest: Ingest) -> None:
    members = {
        "x.jpg": GOOD,
        "x.txt": b"one\ntwo",
        "y.png": b"nonsense",
        "y.json": b'{"caption": "a y", "url": "https://u:p@h/y.png?token=1"}',
        "z.jpg": b"",
        "x.v2.jpg": GOOD,
        "w.cls": b"3",
        "README": b"read",
    }
    ingest.put({"b/00007.tar": packed(members), "b/00009.tar": packed({})})
    plan = ingest.run("/b/*.tar")
    assert plan.shards() == ["00007", "00009"]
    samples = ingest.samples(plan)
    assert status(samples) == [
        ("00007.tar/x.jpg", "", GOOD),
        ("00007.tar/y.png", "not_image", b"nonsense"),
        ("00007.tar/z.jpg", "empty", b""),
        ("00007.tar/x.v2.jpg", "duplicate_key", None),
        ("00007.tar/w", "missing_member", None),
    ]
    assert [one.key for one in samples] == ["x", "y", "z", "x#2", "w"]
    assert [one.row["captions"] for one in samples[:2]] == [["one", "two"], ["a y"]]
    assert samples[1].row["url"] == "https://h/y.png"
    assert samples[3].row["n_bytes"] == len(GOOD)
    receipt = ingest.store.receipt(plan.shard("00007"))
    assert receipt is not None
    assert receipt.facts == {"members": 8, "skipped": {"no ending": 1, "other ending": 1}}
    assert [facts.url.rsplit("/", 1)[-1] for facts in receipt.inputs] == ["00007.tar"]
    assert receipt.inputs[0].stamp
    assert "00007.tar" not in ingest.files()
    before = ingest.files()
    assert ingest.store.made(plan) == {"00007", "00009"}
    assert ingest.store.adopt(plan, "00007", judge) == receipt
    assert ingest.files() == before


def img2dataset_parquet() -> bytes:
    table = pa.table(
        {
            "caption": ["first", "second", "third", None],
            "url": [f"https://h/{number}.jpg" for number in range(4)],
            "key": ["000000000", "000000001", "000000002", "000000003"],
            "status": ["success", "failed_to_download", "success", "failed_to_resize"],
            "error_message": [None, "HTTP Error 404", None, "bad"],
            "width": pa.array([9, None, 9, None], pa.int32()),
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def test_rows_of_img2dataset_without_a_member_become_error_rows(ingest: Ingest) -> None:
    members = {
        "000000000.jpg": GOOD,
        "000000000.txt": b"first",
        "000000000.json": b'{"caption": "first", "url": "https://h/0.jpg"}',
    }
    ingest.put({"00000.tar": packed(members), "00000.parquet": img2dataset_parquet()})
    plan = ingest.run("/00000.tar")
    samples = ingest.samples(plan)
    assert status(samples) == [
        ("00000.tar/000000000.jpg", "", GOOD),
        ("00000.tar/000000001", "missing_member", None),
        ("00000.tar/000000002", "missing_member", None),
        ("00000.tar/000000003", "missing_member", None),
    ]
    rows = [one.row for one in samples]
    assert [row["url"] for row in rows] == [f"https://h/{number}.jpg" for number in range(4)]
    assert [row["captions"] for row in rows] == [["first"], ["second"], ["third"], []]
    assert [row["error_detail"] for row in rows[1:]] == [
        "HTTP Error 404",
        "listed, but not in the tar",
        "bad",
    ]
    receipt = ingest.store.receipt(plan.shard("00000"))
    assert receipt is not None
    assert [facts.url.rsplit("/", 1)[-1] for facts in receipt.inputs] == [
        "00000.tar",
        "00000.parquet",
    ]


def test_an_unsound_tar_fails_its_shard_and_no_other(local: Ingest) -> None:
    whole = packed({"a.jpg": GOOD})
    local.put({"0.tar": whole, "1.tar": whole[:600], "2.tar": b"text " * 300})
    plan, _ = local.plan("/*.tar")
    for stem, message in [("1", "is cut"), ("2", "is not a tar")]:
        with pytest.raises(TarError, match=message):
            local.store.adopt(plan, stem, judge)
    local.store.adopt(plan, "0", judge)
    assert local.store.made(plan) == {"0"}
    assert sorted(local.files()) == sorted(["0.json", "0.parquet", "plan.json", plan.data])


def test_a_tar_of_others_that_changed_is_done_again(local: Ingest) -> None:
    local.put({"0.tar": packed({"a.jpg": GOOD})})
    plan = local.run("/0.tar")
    local.put({"0.tar": packed({"a.jpg": GOOD + b"new", "b.jpg": GOOD})})
    assert local.store.made(plan) == set()
    with pytest.raises(TarError):
        list(local.store.samples(plan.shard("0")))
    receipt = local.store.adopt(plan, "0", judge)
    assert (receipt.generation, receipt.rows) == (1, 2)
    assert len(local.samples(plan)) == 2


def test_our_own_shards_can_be_a_source_again(local: Ingest, tmp_path: Path) -> None:
    fill(local)
    plan = local.run()
    again = Ingest(str(tmp_path / "again"))
    again.url = plan.folder
    copy = again.run("/{00000..00001}.tar")
    assert [one.image for one in again.samples(copy)] == [one.image for one in local.samples(plan)]
    assert [one.key for one in again.samples(copy)] == [one.key for one in local.samples(plan)]


def test_memory_holds_one_picture_not_a_shard(local: Ingest) -> None:
    size = 1 << 20
    for number in range(40):
        local.put({f"{number:02}.jpg": GOOD + bytes(size)})
    plan, source = local.plan(per_shard=100)
    tracemalloc.start()
    try:
        local.store.cut(plan, "00000", source, judge)
        for sample in local.store.samples(plan.shard("00000")):
            assert sample.image is not None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * size


def test_two_workers_on_one_shard_leave_one_receipt(local: Ingest) -> None:
    """The second is in the middle of its cut when the first has ended."""
    fill(local)
    plan, source = local.plan()
    first: list[Receipt] = []

    def meanwhile(data: bytes) -> HeaderFacts:
        if not first:
            first.append(local.store.cut(read_plan(local.root, "0000"), "00000", source, judge))
            local.put({"b.png": GOOD + b"changed since"})
        return judge(data)

    assert local.store.cut(plan, "00000", source, meanwhile) == first[0]
    names = ["00000.json", "00000.parquet", "00000.tar"]
    assert sorted(name for name in local.files() if name.startswith("00000")) == names
    assert [one.image for one in local.store.samples(plan.shard("00000"))][1] == GOOD
