import json
import logging
import os
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from planning import plan_batch

from storage.errors import ConfigurationError, ShardError
from storage.layout import Root, open_root
from storage.plan import (
    Plan,
    ShardOptions,
    plan_new,
    read_plan,
    read_plans,
    shard_fingerprint,
    unfinished,
)
from storage.receipts import Receipt, commit_receipt
from storage.sources import Source, open_source

SMALL = ShardOptions(samples_per_shard=2)


class Collection:
    """A folder of one-byte pictures, with a root beside it."""

    def __init__(self, url: str) -> None:
        self.fs, self.top = fsspec.url_to_fs(f"{url}-pictures")
        self.url = f"{url}-pictures"
        self.root = open_root(url)

    def put(self, *names: str, content: bytes = b"x") -> None:
        for name in names:
            path = f"{self.top}/{name}"
            self.fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self.fs.pipe_file(path, content)

    def remove(self, name: str) -> None:
        self.fs.rm_file(f"{self.top}/{name}")

    @property
    def source(self) -> Source:
        return open_source(self.url, exclude=self.root.url)

    def plan(self, batch: str | None = None, options: ShardOptions = SMALL) -> Plan | None:
        return plan_batch(self.root, self.source, options, batch)

    def planned(self) -> Plan:
        plan = self.plan()
        assert plan is not None
        return plan


@pytest.fixture
def pictures(root_url: str) -> Collection:
    return Collection(root_url)


@pytest.fixture
def local(tmp_path: Path) -> Collection:
    return Collection(str(tmp_path / "root"))


def finish(plan: Plan, *stems: str) -> None:
    """Give shards of `plan` the receipts that mark them as made."""
    for stem in stems or plan.shards():
        receipt = Receipt(
            stage="shard", shard=f"{plan.batch}/{stem}", fingerprint=shard_fingerprint(plan), rows=0
        )
        commit_receipt(plan.folder, stem, receipt)


def paths(plan: Plan) -> dict[str, list[str]]:
    return {stem: [row.path for row in plan.rows(stem)] for stem in plan.shards()}


def test_a_plan_freezes_the_listing_in_shards(pictures: Collection) -> None:
    pictures.put("c.jpg", "a/1.jpg", "b.jpg", "a/2.jpg", "note.doc", "d.jpg")
    plan = pictures.planned()
    expected = {"00000": ["a/1.jpg", "a/2.jpg"], "00001": ["b.jpg", "c.jpg"], "00002": ["d.jpg"]}
    assert paths(plan) == expected
    assert (plan.batch, plan.n_rows, plan.n_shards, plan.kind) == ("0000", 5, 3, "folder")
    assert plan.counts == {"new": 5, "changed": 0, "vanished": 0}
    assert plan.passed_over == {".doc": 1}
    assert read_plan(pictures.root, "0000") == plan
    assert plan.shards() == ["00000", "00001", "00002"]


def test_an_unfinished_plan_is_resumed_and_not_listed_again(pictures: Collection) -> None:
    pictures.put("a.jpg", "b.jpg", "c.jpg")
    plan = pictures.planned()
    finish(plan, "00000")
    pictures.put("z.jpg")
    assert pictures.plan() == plan
    assert unfinished(pictures.root, pictures.source) == [plan]
    finish(plan, "00001")
    assert unfinished(pictures.root, pictures.source) == []


def test_a_plan_of_what_is_new_can_be_made_beside_an_unfinished_one(local: Collection) -> None:
    """A shard that fails every night must not keep new pictures out for ever."""
    local.put("a.jpg", "b.jpg")
    first = local.planned()
    local.put("c.jpg")
    second = plan_new(local.root, local.source, SMALL)
    assert second is not None
    assert paths(second) == {"00000": ["c.jpg"]}
    assert unfinished(local.root, local.source) == [first, second]


def test_only_what_is_new_or_changed_makes_a_new_batch(pictures: Collection) -> None:
    pictures.put("a/1.jpg", "a/2.jpg", "b.jpg", "c.jpg")
    finish(pictures.planned())
    assert pictures.plan() is None
    pictures.put("a.jpg", "zz.jpg")
    pictures.put("a/2.jpg", content=b"longer")
    pictures.remove("a/1.jpg")
    pictures.remove("b.jpg")
    plan = pictures.planned()
    assert plan.batch == "0001"
    assert paths(plan) == {"00000": ["a/2.jpg", "a.jpg"], "00001": ["zz.jpg"]}
    assert plan.counts == {"new": 2, "changed": 1, "vanished": 2}
    rows = pq.read_table(plan.data_url, filesystem=pictures.fs if "://" in plan.folder else None)
    gone = [row["path"] for row in rows.to_pylist() if row["change"] == "vanished"]
    assert gone == ["a/1.jpg", "b.jpg"]
    finish(plan)
    assert pictures.plan() is None, "the newest plan says what is known of a path"


def test_a_vanished_picture_is_told_once_and_is_not_new_when_it_returns(local: Collection) -> None:
    local.put("a.jpg", "b.jpg")
    times = os.stat(f"{local.top}/a.jpg")  # noqa: PTH116
    finish(local.planned())
    local.remove("a.jpg")
    assert local.plan() is None, "that something is gone is no work"
    local.put("c.jpg")
    second = local.planned()
    finish(second)
    local.put("d.jpg")
    third = local.planned()
    finish(third)
    assert [plan.counts["vanished"] for plan in (second, third)] == [1, 0]
    local.put("a.jpg")
    os.utime(f"{local.top}/a.jpg", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert local.plan() is None
    local.put("a.jpg", content=b"other")
    assert local.planned().counts == {"new": 0, "changed": 1, "vanished": 0}


def test_same_size_with_another_time_is_a_change(local: Collection) -> None:
    local.put("a.jpg")
    finish(local.planned())
    local.put("a.jpg", content=b"y")
    os.utime(f"{local.top}/a.jpg", (1, 1))
    assert local.planned().counts["changed"] == 1


def test_a_batch_name_that_is_taken_gets_a_number(local: Collection) -> None:
    for turn, expected in enumerate(["2026-11-21", "2026-11-21-2", "2026-11-21-3"]):
        local.put(f"{turn}.jpg")
        plan = local.plan("2026-11-21")
        assert plan is not None
        assert (plan.batch, plan.sequence) == (expected, turn)
        finish(plan)
    local.put("last.jpg")
    assert local.planned().batch == "0000"
    assert [plan.batch for plan in read_plans(local.root)][-1] == "0000", "order is of making"


def test_a_batch_of_another_configuration_is_refused(local: Collection, tmp_path: Path) -> None:
    local.put("a.jpg")
    plan = local.plan("b1")
    assert plan is not None
    finish(plan)
    with pytest.raises(ConfigurationError, match=r"batch 'b1' was planned from .*give another"):
        local.plan("b1", ShardOptions(samples_per_shard=3))
    other = Collection(str(tmp_path / "other"))
    other.put("q.jpg")
    with pytest.raises(ConfigurationError, match="batch 'b1' was planned from"):
        plan_batch(local.root, other.source, SMALL, "b1")
    with pytest.raises(ConfigurationError, match=r"batch '\.\./x' cannot name a folder"):
        local.plan("../x")


def test_an_unfinished_plan_keeps_its_options(
    local: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    local.put("a.jpg", "b.jpg", "c.jpg")
    plan = local.planned()
    with caplog.at_level(logging.WARNING):
        assert local.plan(options=ShardOptions(samples_per_shard=5)) == plan
    assert "goes on with the options it was planned with" in caplog.text


def test_the_plan_of_another_source_is_left_alone(
    local: Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its paths would be looked for in the wrong place; and its pictures are not known yet."""
    local.put("a.jpg")
    first = local.planned()
    other = Collection(str(tmp_path / "other"))
    other.put("b.jpg")
    with caplog.at_level(logging.WARNING):
        plan = plan_batch(local.root, other.source, SMALL)
    assert plan is not None
    assert paths(plan) == {"00000": ["b.jpg"]}
    assert plan.counts["vanished"] == 0
    assert "batch 0000" in caplog.text
    assert unfinished(local.root, local.source) == [first]


def test_a_planner_that_comes_late_uses_the_standing_plan(pictures: Collection) -> None:
    """Two start at once; the second lists more, and must not have its own plan stand."""
    pictures.put("a.jpg", "b.jpg")

    class Slow:
        """A source during whose listing another planner is done."""

        def __init__(self, source: Source) -> None:
            self.kind, self.base, self.facts = source.kind, source.base, source.facts
            self.counted: dict[str, int] = {}
            self.source = source
            self.first: Plan | None = None

        def items(self):  # type: ignore[no-untyped-def]
            self.first = pictures.planned()
            pictures.put("late.jpg")
            yield from self.source.items()

        def read(self, path: str) -> bytes:
            return self.source.read(path)

    slow = Slow(pictures.source)
    plan = plan_new(pictures.root, slow, SMALL)
    assert plan == slow.first
    names = [name.rsplit("/", 1)[-1] for name in pictures.fs.ls(plan.folder, detail=False)]
    assert sorted(names) == sorted(["plan.json", plan.data])


def test_a_failed_listing_leaves_no_plan(local: Collection) -> None:
    (Path(local.top)).mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="holds no pictures"):
        local.plan()
    assert read_plans(local.root) == []
    assert local.root.batches() == []


def test_a_plan_that_was_edited_or_lost_its_rows_says_so(local: Collection) -> None:
    local.put("a.jpg", "b.jpg")
    plan = local.planned()
    with pytest.raises(ShardError, match="'00007' is not in the plan"):
        plan.rows("00007")
    file = Path(plan.folder) / "plan.json"
    body = json.loads(file.read_text())
    file.write_text(json.dumps(body | {"n_rows": 3}))
    with pytest.raises(ConfigurationError, match="was edited"):
        read_plan(local.root, "0000")
    file.write_text(json.dumps(body))
    data = bytearray(Path(plan.data_url).read_bytes())
    data[40] ^= 1
    Path(plan.data_url).write_bytes(data)
    with pytest.raises(ShardError, match="damaged"):
        plan.rows("00000")
    Path(plan.data_url).unlink()
    with pytest.raises(ShardError, match="missing"):
        plan.rows("00000")


def test_a_torn_plan_counts_as_none(local: Collection) -> None:
    """A disk without links may keep the half of a plan when its planner is killed."""
    local.put("a.jpg")
    file = Path(local.planned().folder) / "plan.json"
    file.write_bytes(file.read_bytes()[:100])
    assert read_plans(local.root) == []
    with pytest.raises(ConfigurationError, match="no plan"):
        read_plan(local.root, "0000")
    assert local.planned().batch == "0000"
    assert len(read_plans(local.root)) == 1


def test_plans_of_equal_collections_have_equal_digests(tmp_path: Path) -> None:
    """Neither place nor time of the files enters what shards are made from; content does."""
    digests = []
    for place, content in [("one", b"x"), ("two", b"x"), ("three", b"longer")]:
        collection = Collection(str(tmp_path / place / "root"))
        collection.put("a.jpg", "b.jpg", content=content)
        os.utime(f"{collection.top}/a.jpg", (len(place), len(place)))
        digests.append(collection.planned().digest)
    assert digests[0] == digests[1] != digests[2]


def test_equal_stems_of_tars_from_several_folders_are_numbered(local: Collection) -> None:
    names = ["a/00000.tar", "a/x-1.tar", "a/x_1.tar", "b/00000.tar", "b/plan.tar", "c/00000.tar"]
    local.put(*names, content=b"\0" * 10240)
    source = open_source(f"{local.url}/**/*.tar")
    plan = plan_batch(local.root, source, ShardOptions())
    assert plan is not None
    assert {stem: plan.rows(stem)[0].path for stem in plan.shards()} == {
        "00000": "a/00000.tar",
        "x_1": "a/x-1.tar",
        "1_x_1": "a/x_1.tar",
        "1_00000": "b/00000.tar",
        "1_plan": "b/plan.tar",
        "2_00000": "c/00000.tar",
    }
    assert plan.rows("x_1")[0].url == f"{local.url}/a/x-1.tar"


def test_a_shard_is_found_without_reading_the_whole_plan(tmp_path: Path) -> None:
    root = Root(str(tmp_path / "root"))
    table = tmp_path / "t.csv"
    table.write_text("path\n" + "".join(f"{number:05}.jpg\n" for number in range(25_000)))
    (tmp_path / "00000.jpg").touch()
    plan = plan_batch(root, open_source(str(table)), ShardOptions(samples_per_shard=700))
    assert plan is not None
    assert pq.ParquetFile(plan.data_url).num_row_groups == 3
    assert len(plan.shards()) == 36
    assert [row.path for row in plan.rows("00014")] == [f"{n:05}.jpg" for n in range(9800, 10500)]
    damaged = bytearray(Path(plan.data_url).read_bytes())
    damaged[100] ^= 1  # in the first row group, which this shard has no row in
    Path(plan.data_url).write_bytes(damaged)
    assert len(plan.rows("00035")) == 500


@pytest.mark.parametrize("options", [{"samples_per_shard": 0}, {"resize": 0}])
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        ShardOptions(**options)
