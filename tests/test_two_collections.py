"""Collections that share a root and names: neither hides, replaces or stands in for the other's."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from planning import plan_batch
from test_plan import SMALL, Collection, finish, paths
from test_run import run

from storage import open_captions
from storage.fingerprint import fingerprint
from storage.plan import Plan, ShardOptions, plan_new, read_plan, read_plans
from storage.sources import open_source
from tasks.ingest import IngestOptions

Counts = tuple[int, int, int]


def collection(folder: Path, *names: str, content: bytes = b"x") -> Collection:
    """Pictures that all have one time, as copied or unpacked ones may."""
    found = Collection(str(folder / "root"))
    for name in names:
        put(found, name, content)
    return found


def put(pictures: Collection, name: str, content: bytes) -> None:
    pictures.put(name, content=content)
    os.utime(f"{pictures.top}/{name}", (1000, 1000))


def counts(plan: Plan | None) -> Counts | None:
    """What is new, changed and vanished; the plan is finished thereby."""
    if plan is None:
        return None
    finish(plan)
    return plan.counts["new"], plan.counts["changed"], plan.counts["vanished"]


def draw(path: Path, width: int, height: int) -> str:
    """A picture whose file has the same length and time if its area is the same; what it shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)
    os.utime(path, (1000, 1000))
    return f"A picture of {width} by {height} pixels."


def told(root: Path, **options: Any) -> list[tuple[str, str]]:
    """Shard and caption of every row."""
    rows = open_captions(str(root), **options).read_all().to_pylist()
    return [(row["shard"], row["caption"]) for row in rows]


def test_a_file_like_one_of_another_collection_is_planned_all_the_same(tmp_path: Path) -> None:
    one = collection(tmp_path / "one", "1.jpg", "2.jpg", content=b"aaaa")
    two = collection(tmp_path / "two", "1.jpg", "3.jpg", content=b"bbbb")
    assert counts(plan_batch(one.root, one.source, SMALL)) == (2, 0, 0)
    assert counts(plan_batch(one.root, two.source, SMALL)) == (2, 0, 0)
    assert plan_batch(one.root, one.source, SMALL) is None
    assert plan_batch(one.root, two.source, SMALL) is None


def test_each_collection_remembers_its_own_past(tmp_path: Path) -> None:
    """What changed, vanished or came back is told from its own plans, whatever came between."""
    one = collection(tmp_path / "one", "1.jpg", "2.jpg", "3.jpg")
    two = collection(tmp_path / "two", "1.jpg", "2.jpg", "4.jpg", content=b"yy")

    def night(pictures: Collection) -> Counts | None:
        return counts(plan_batch(one.root, pictures.source, SMALL))

    assert [night(one), night(two)] == [(3, 0, 0), (3, 0, 0)]
    put(one, "1.jpg", b"longer")
    one.remove("2.jpg")
    two.remove("1.jpg")
    put(two, "5.jpg", b"y")
    assert [night(one), night(two)] == [(0, 1, 1), (1, 0, 1)]
    assert [night(one), night(two)] == [None, None]
    put(one, "2.jpg", b"x")
    put(one, "6.jpg", b"x")
    put(two, "1.jpg", b"zz")
    os.utime(f"{two.top}/1.jpg", (2000, 2000))
    assert [night(one), night(two)] == [(1, 0, 0), (0, 1, 0)]


@pytest.mark.parametrize("listed", ["other", "pattern"])
def test_a_picture_that_vanished_from_an_unfinished_batch_hinders_nobody(
    tmp_path: Path, listed: str
) -> None:
    """Of the plans that count then, the only one that names it says that it is gone."""
    one = collection(tmp_path / "one", "1.jpg", "2.jpg")
    root = one.root
    assert one.plan(), "and its only shard fails every night"
    one.remove("1.jpg")
    put(one, "3.jpg", b"x")
    assert counts(plan_new(root, one.source, SMALL)) == (1, 0, 1)
    if listed == "other":
        other = collection(tmp_path / "two", "9.jpg").source
        assert counts(plan_new(root, other, SMALL)) == (1, 0, 0)
        return
    pattern = open_source(f"{one.url}/*.jpg", exclude=root.url)
    assert counts(plan_new(root, pattern, SMALL)) == (1, 0, 0), "2.jpg is in no finished batch"
    put(one, "1.jpg", b"x")
    plan = plan_new(root, pattern, SMALL)
    assert plan
    assert paths(plan) == {"00000": ["1.jpg"]}, "it is in no batch that counts"


def test_a_picture_is_new_where_the_batch_that_held_it_is_gone(tmp_path: Path) -> None:
    one = collection(tmp_path / "one", "1.jpg", "2.jpg")
    first = one.planned()
    finish(first)
    one.remove("1.jpg")
    one.put("3.jpg")
    assert counts(one.plan()) == (1, 0, 1)
    (Path(first.folder) / "plan.json").unlink()
    put(one, "1.jpg", b"x")
    assert counts(one.plan("again")) == (2, 0, 0)


@pytest.mark.parametrize("patterns", [("{0..1}.tar", "{0..2}.tar"), ("?.tar", "*.tar")])
def test_a_pattern_that_grew_brings_only_what_it_did_not_mean_before(
    tmp_path: Path, patterns: tuple[str, str]
) -> None:
    """Another pattern is another source, but its paths mean the same files."""
    one = collection(tmp_path / "one", "0.tar", "1.tar", content=b"\0" * 10240)

    def night(pattern: str) -> Counts | None:
        source = open_source(f"{one.url}/{pattern}")
        return counts(plan_batch(one.root, source, ShardOptions()))

    assert night(patterns[0]) == (2, 0, 0)
    put(one, "2.tar", b"\0" * 10240)
    assert night(patterns[1]) == (1, 0, 0)


@pytest.mark.parametrize(
    "spell",
    [
        lambda top: f"{top}/",
        lambda top: f"{top.rpartition('/')[0]}//{top.rpartition('/')[2]}",
        lambda top: f"{top}/sub/..",
        lambda top: f"file://{top}",
        lambda top: f"./{top.rpartition('/')[2]}",
        lambda top: f"{top}/**",
    ],
)
def test_a_folder_is_one_collection_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spell: Callable[[str], str]
) -> None:
    one = collection(tmp_path, "1.jpg", "sub/2.jpg")
    assert counts(one.plan()) == (2, 0, 0)
    monkeypatch.chdir(tmp_path)
    source = open_source(spell(one.url), exclude=one.root.url)
    assert plan_batch(one.root, source, SMALL) is None


def test_folders_with_the_signs_of_patterns_in_their_names_are_told_apart(tmp_path: Path) -> None:
    one = collection(tmp_path / "trip [2023]", "1.jpg")
    two = collection(tmp_path / "trip [2024]", "1.jpg")
    assert counts(plan_batch(one.root, one.source, SMALL)) == (1, 0, 0)
    assert counts(plan_batch(one.root, two.source, SMALL)) == (1, 0, 0)


def test_a_plan_of_before_bases_were_kept_is_known_by_its_source(tmp_path: Path) -> None:
    one = collection(tmp_path / "one", "1.jpg")
    first = one.planned()
    finish(first)
    file = Path(first.folder) / "plan.json"
    body = json.loads(file.read_text())
    del body["base"], body["file_digest"]
    file.write_text(json.dumps(body | {"file_digest": fingerprint(body)}))
    assert read_plan(one.root, first.batch) == first
    assert one.plan() is None


def test_a_plan_comes_after_all_that_stand_also_when_one_is_gone(tmp_path: Path) -> None:
    one = collection(tmp_path / "one", "1.jpg")
    for number, batch in enumerate(("c", "b", "a")):
        plan = one.plan(batch)
        assert plan
        finish(plan)
        one.put(f"{number}-more.jpg")
        if batch == "b":
            (Path(one.root.shards("c")) / "plan.json").unlink()
    assert [plan.batch for plan in read_plans(one.root)] == ["b", "a"]


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("names", [("first", "2026-11-21"), ("2026-11-21-9", "2026-11-21-10")])
def test_the_newest_row_is_of_the_batch_that_was_planned_last(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    """Names tell nothing of time: `-10` sorts before `-9`, and a word after any date."""
    for name, size in zip(names, [(20, 30), (50, 60)], strict=True):
        caption = draw(tmp_path / "pictures" / "1.png", *size)
        run(tmp_path / "pictures", str(tmp_path / "root"), ingest=IngestOptions(batch=name))
    assert told(tmp_path / "root") == [(f"{names[1]}/00000", caption)]
    assert [shard for shard, _ in told(tmp_path / "root", history=True)] == [
        f"{name}/00000" for name in sorted(names)
    ], "the stream stays in order of shard"


@pytest.mark.usefixtures("prefect_api")
def test_collections_with_the_same_names_in_one_root_keep_their_rows(tmp_path: Path) -> None:
    """The files differ in nothing but place and content; then one of them changes."""
    root = tmp_path / "root"
    first = draw(tmp_path / "2023" / "1.bmp", 20, 40)
    second = draw(tmp_path / "2024" / "1.bmp", 40, 20)
    for folder in ("2023", "2024"):
        run(tmp_path / folder, str(root))
    assert told(root) == [("0000/00000", first), ("0001/00000", second)]
    changed = draw(tmp_path / "2023" / "1.bmp", 30, 30)
    run(tmp_path / "2023", str(root))
    assert told(root) == [("0001/00000", second), ("0002/00000", changed)]
    assert len(told(root, history=True)) == 3
