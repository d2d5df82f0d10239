"""A shard in which many pictures fail is done, yet told aloud."""

from pathlib import Path

import pytest
from collections_of_pictures import draw_sizes

from flows.report import report
from flows.summary import StageSummary, Summary
from tasks.options import LaneOptions


def shard(pictures: Path, root: Path, count: int) -> Summary:
    from flows.shard import shard as flow
    from flows.stage import outcome

    draw_sizes(pictures, count)
    (pictures / "broken.jpg").write_bytes(b"no picture")
    return outcome(flow(str(pictures), str(root), lanes=LaneOptions(lanes=0), return_state=True))


def test_a_shard_of_which_many_pictures_fail_is_told_aloud(
    tmp_path: Path, prefect_api: None, capsys: pytest.CaptureFixture[str]
) -> None:
    good = shard(tmp_path / "good", tmp_path / "a", 9)
    assert good.stages[0].poor_shards == {}
    bad = shard(tmp_path / "bad", tmp_path / "b", 3)
    assert bad.ok
    (stage,) = bad.to_json()["stages"]
    assert stage["poor_shards"] == {"0000/00000": "1 of its 4 pictures failed"}
    assert stage["failures"] == {"not_image": 1}
    capsys.readouterr()
    report(good, as_json=False)
    assert "ALARM" not in capsys.readouterr().out
    report(bad, as_json=False)
    assert "ALARM shard 0000/00000: 1 of its 4 pictures failed" in capsys.readouterr().out


@pytest.mark.parametrize(("rows", "failed"), [(5, 1), (10, 2), (15, 3), (1000, 200)])
def test_four_fifths_are_enough(rows: int, failed: int) -> None:
    stage = StageSummary(name="embed")
    stage.judge("0000/00000", rows, failed)
    assert stage.poor_shards == {}
    stage.judge("0000/00000", rows, failed + 1)
    assert stage.poor_shards
