"""The nightly flow on real files, with the weightless `size` model: every row in its place."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from collections_of_pictures import draw_sizes, snapshot

from storage import open_captions
from storage.edits_apply import apply_edits
from storage.errors import ConfigurationError
from storage.exclusive import check_exclusive
from storage.layout import open_root
from storage.plan import ShardOptions
from storage.review import open_review
from tasks.ingest import IngestOptions
from tasks.lanes import Lanes
from tasks.options import CaptionOptions, ComputeOptions, DecodeOptions, LaneOptions
from tasks.settings.caption import embedding_for

SIZE = CaptionOptions(model="size", compute=ComputeOptions(threads=1))
SMALL = IngestOptions(shards=ShardOptions(samples_per_shard=5))
HERE = LaneOptions(lanes=0)

pytestmark = pytest.mark.usefixtures("prefect_api")


def run(source: Path, root: str, **options: Any) -> Any:
    from flows.run import run as flow
    from flows.stage import outcome

    settings = {"captions": SIZE, "ingest": SMALL, "lanes": HERE, **options}
    return outcome(flow(str(source), root, **settings, return_state=True))


def rows(root: str, name: str) -> list[dict[str, Any]]:
    table: pa.Table = open_captions(root, name).read_all()
    return table.to_pylist()


def test_every_picture_gets_its_own_caption(tmp_path: Path, root_url: str) -> None:
    truths = draw_sizes(tmp_path / "pictures", 13)
    summary = run(tmp_path / "pictures", root_url)
    assert {row["path"]: row["caption"] for row in rows(root_url, summary.run)} == truths
    assert summary.ok
    assert [stage.rows for stage in summary.stages] == [13, 13, 13]


def test_what_is_no_picture_is_a_row_with_a_code_and_costs_no_other(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    truths = draw_sizes(pictures, 6)
    (pictures / "empty.jpg").touch()
    (pictures / "words.png").write_text("these are words")
    cut = (pictures / "part-0" / "00000.png").read_bytes()
    (pictures / "cut.png").write_bytes(cut[: len(cut) - 20])
    summary = run(pictures, str(tmp_path / "root"))
    found = {row["path"]: row for row in rows(str(tmp_path / "root"), summary.run)}
    codes = {path: row["error_code"] for path, row in found.items() if row["status"] == "error"}
    assert codes == {"empty.jpg": "empty", "words.png": "not_image", "cut.png": "truncated"}
    assert {path: found[path]["caption"] for path in truths} == truths
    assert summary.totals["failures"] == {"empty": 1, "not_image": 1, "truncated": 1}
    assert all(found[path]["caption"] is None and not found[path]["captions"] for path in codes)
    assert all(found[path]["sha256"] for path in codes)


def test_drawn_captions_depend_on_the_picture_and_not_on_shards_or_lanes(tmp_path: Path) -> None:
    from captioner import scenes

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for at, scene in enumerate(scenes.sample(7, 3)):
        scenes.draw(scene, size=64, seed=at).save(pictures / f"{at}.png")
    drawn = DecodeOptions(name="top-p", samples=3, seed=5)
    options = CaptionOptions(model="nano", decode=drawn, compute=ComputeOptions(threads=1))
    found = []
    for size, lanes in ((7, 0), (2, 0), (3, 1)):
        root = str(tmp_path / f"root-{size}")
        ingest = IngestOptions(shards=ShardOptions(samples_per_shard=size))
        summary = run(
            pictures, root, captions=options, ingest=ingest, lanes=LaneOptions(lanes=lanes)
        )
        found.append({row["path"]: row["captions"] for row in rows(root, summary.run)})
    for path, captions in found[0].items():
        texts = [one["text"] for one in captions]
        assert len(set(texts)) == len(texts)
        assert [one["clip_sim"] for one in captions] == sorted(
            (one["clip_sim"] for one in captions), reverse=True
        )
        for other in (found[1][path], found[2][path]):
            assert [(one["text"], one["seed"]) for one in other] == [
                (one["text"], one["seed"]) for one in captions
            ]
            assert [one["logprob"] for one in other] == pytest.approx(
                [one["logprob"] for one in captions], abs=1e-5
            )
    assert any(len(captions) > 1 for captions in found[0].values())


def test_a_second_run_writes_nothing(tmp_path: Path) -> None:
    draw_sizes(tmp_path / "pictures", 7)
    root = tmp_path / "root"
    run(tmp_path / "pictures", str(root))
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    summary = run(tmp_path / "pictures", str(root))
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert [stage.rows for stage in summary.stages] == [0, 0, 0]


def test_a_run_after_applied_edits_keeps_them_and_finds_nothing_to_do(tmp_path: Path) -> None:
    """A generation names the inputs of the one before, so no stage takes its shard for stale."""
    draw_sizes(tmp_path / "pictures", 7)
    root = str(tmp_path / "root")
    name = run(tmp_path / "pictures", root).run
    with open_review(root) as review:
        row = review.row(3)
        assert row
        edit = {"id": "0" * 32, "action": "edit", "caption": "by hand"}
        review.decide([((row["shard"], row["key"]), edit)], by="ann")
    apply_edits(root)
    before = snapshot(Path(root))
    summary = run(tmp_path / "pictures", root)
    assert [stage.rows for stage in summary.stages] == [0, 0, 0]
    assert snapshot(Path(root)) == before
    assert [one["caption"] for one in rows(root, name)].count("by hand") == 1


def test_two_roots_of_the_same_source_are_equal_byte_for_byte(tmp_path: Path) -> None:
    draw_sizes(tmp_path / "pictures", 11)
    run(tmp_path / "pictures", str(tmp_path / "one"))
    with Lanes(2):
        run(tmp_path / "pictures", str(tmp_path / "two"), lanes=LaneOptions(lanes=2))
    assert snapshot(tmp_path / "one").keys() == snapshot(tmp_path / "two").keys()
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_new_and_changed_pictures_become_a_new_batch(tmp_path: Path) -> None:
    pictures, root = tmp_path / "pictures", str(tmp_path / "root")
    truths = draw_sizes(pictures, 6)
    run(pictures, root)
    changed = draw_sizes(tmp_path / "other", 1, start=40)
    (newer,) = (tmp_path / "other").rglob("*.png")
    newer.replace(pictures / "part-0" / "00000.png")
    truths |= draw_sizes(pictures, 2, start=6) | {"part-0/00000.png": next(iter(changed.values()))}
    summary = run(pictures, root)
    assert summary.stages[0].rows == 3
    assert {row["path"]: row["caption"] for row in rows(root, summary.run)} == truths
    everything = open_captions(root, summary.run, history=True).read_all()
    assert everything.num_rows == 9


def test_a_run_leaves_its_summary_beside_it(tmp_path: Path) -> None:
    pictures, root = tmp_path / "pictures", str(tmp_path / "root")
    draw_sizes(pictures, 6)
    (pictures / "empty.jpg").touch()
    summary = run(pictures, root)
    file = tmp_path / "root" / "captions" / summary.run / "summary.json"
    told = json.loads(file.read_text())
    assert (told["ok"], told["rows"], told["captioned"]) == (True, 7, 6)
    assert told["failures"] == {"empty": 1}
    assert [stage["shards"] for stage in told["stages"]] == [2, 2, 2]
    assert str(tmp_path) not in file.read_text()
    draw_sizes(pictures, 2, start=6)
    run(pictures, root)
    told = json.loads(file.read_text())
    assert [(stage["shards"], stage["skipped_shards"]) for stage in told["stages"]] == [
        (1, 0),
        (3, 2),
        (3, 2),
    ]
    before = file.stat().st_mtime_ns
    assert run(pictures, root).ok
    assert file.stat().st_mtime_ns == before


def test_another_configuration_says_how_many_pictures_are_captioned_again(tmp_path: Path) -> None:
    pictures, root = tmp_path / "pictures", str(tmp_path / "root")
    draw_sizes(pictures, 6)
    assert "captioned_anew" not in run(pictures, root).facts
    draw_sizes(pictures, 3, start=6)
    assert "captioned_anew" not in run(pictures, root).facts
    draw_sizes(pictures, 4, start=9)
    other = CaptionOptions(model="size", score=False, compute=SIZE.compute)
    assert run(pictures, root, captions=other).facts["captioned_anew"] == 9
    assert "captioned_anew" not in run(pictures, root, captions=other).facts


def test_a_store_that_cannot_tell_writers_apart_is_refused_to_several(
    s3_root: str, tmp_path: Path
) -> None:
    draw_sizes(tmp_path / "pictures", 3)
    with pytest.raises(ConfigurationError, match="--lanes 1 --engine local"):
        run(tmp_path / "pictures", f"{s3_root}/deaf", lanes=LaneOptions(lanes=2))
    assert run(tmp_path / "pictures", f"{s3_root}/deaf").ok
    check_exclusive(s3_root)
    assert not [name for name in fsspec.filesystem("s3").find(s3_root) if ".partial" in name]


def test_a_damaged_tar_fails_its_shard_alone_and_the_run(tmp_path: Path) -> None:
    from flows.stage import ShardsFailed

    draw_sizes(tmp_path / "pictures", 10)
    run(tmp_path / "pictures", str(tmp_path / "made"))
    tars, root = tmp_path / "made" / "shards" / "0000", tmp_path / "root"
    with (tars / "00001.tar").open("r+b") as file:
        file.truncate(3000)
    summary = run(tars / "0000*.tar", str(root))
    assert [list(stage.failed_shards) for stage in summary.stages] == [["0000/00001"], [], []]
    assert "00001.tar" in summary.failed_shards["shard 0000/00001"]
    assert len(rows(str(root), summary.run)) == 5
    with pytest.raises(ShardsFailed):
        run_flow(tars / "0000*.tar", root)
    allowed = LaneOptions(lanes=0, max_failed_shards=1)
    assert run_flow(tars / "0000*.tar", root, lanes=allowed).name == "CompletedWithFailures"


def test_a_run_is_sealed_only_once_every_shard_of_the_root_is_in_it(tmp_path: Path) -> None:
    """Whoever waits for `_SUCCESS` must not get three shards of four."""
    from flows.caption import caption
    from flows.finished import finished_captions
    from flows.stage import outcome

    draw_sizes(tmp_path / "pictures", 20)
    run(tmp_path / "pictures", str(tmp_path / "made"))
    tars, root = tmp_path / "made" / "shards" / "0000", str(tmp_path / "root")
    whole = (tars / "00003.tar").read_bytes()
    (tars / "00003.tar").write_bytes(whole[:3000])
    summary = run(tars / "0000*.tar", root)
    home = tmp_path / "root" / "captions" / summary.run
    counts = {"rows": 15, "captioned": 15, "failed": 0, "failures": {}}
    assert not (home / "_SUCCESS").exists()
    assert summary.totals == counts
    told = json.loads((home / "summary.json").read_text())
    assert "1 of 4 shards have to be cut, the first 0000/00003" in told["unsealed"]
    assert (home / "report.html").exists()

    embedding = embedding_for(open_root(root), SIZE)
    idle = finished_captions(root, SIZE, embedding)
    assert (idle.ok, idle.totals) == (True, counts)
    assert not outcome(caption(root, SIZE, embedding, HERE, return_state=True)).stages[0].rows
    assert not (home / "_SUCCESS").exists()

    (tars / "00003.tar").write_bytes(whole)
    mended = run(tars / "0000*.tar", root)
    assert (home / "_SUCCESS").exists()
    assert len(rows(root, mended.run)) == 20
    assert "unsealed" not in mended.facts


def test_a_shard_that_is_cut_and_not_embedded_keeps_the_seal_away(tmp_path: Path) -> None:
    from flows.caption import caption
    from flows.shard import shard
    from flows.stage import outcome

    pictures, root = tmp_path / "pictures", str(tmp_path / "root")
    draw_sizes(pictures, 5)
    home = tmp_path / "root" / "captions" / run(pictures, root).run
    assert (home / "_SUCCESS").exists()
    draw_sizes(pictures, 5, start=5)
    shard(str(pictures), root, SMALL, HERE, return_state=True)
    embedding = embedding_for(open_root(root), SIZE)
    summary = outcome(caption(root, SIZE, embedding, HERE, return_state=True))
    assert "have to be embedded, the first 0001/00000" in summary.facts["unsealed"]
    assert not (home / "_SUCCESS").exists()
    assert "unsealed" not in run(pictures, root).facts
    assert (home / "_SUCCESS").exists()


def run_flow(pictures: Path, root: Path, lanes: LaneOptions = HERE) -> Any:
    """The final state of the flow; raises what failed it."""
    from flows.run import run as flow

    state = flow(
        str(pictures), str(root), captions=SIZE, ingest=SMALL, lanes=lanes, return_state=True
    )
    if state.is_failed():
        state.result()
    return state


def test_a_tar_changed_at_equal_size_is_found_and_cut_again(tmp_path: Path) -> None:
    """A cache by name and size alone would leave the damage where it is."""
    pictures, root = tmp_path / "pictures", tmp_path / "root"
    draw_sizes(pictures, 4)
    run(pictures, str(root))
    before = snapshot(root)
    tar = root / "shards" / "0000" / "00000.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.write_bytes(bytes(data))
    summary = run(pictures, str(root))
    assert summary.ok
    assert summary.stages[0].rows == 4
    assert snapshot(root) == before


@pytest.fixture(autouse=True)
def no_lanes_left_open() -> Iterator[None]:
    yield
    from tasks import lanes

    assert not lanes._current.get()
