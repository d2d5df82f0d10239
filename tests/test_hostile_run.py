"""A folder full of hostile files: one row for every file, the right code on each failure."""

from pathlib import Path

import pytest
from collections_of_pictures import draw_sizes
from hostile import hostile_files
from hostile_more import more_hostile_files
from test_run import run

from storage import open_captions


@pytest.mark.usefixtures("prefect_api")
def test_every_hostile_file_is_a_row_with_its_code_and_costs_no_good_one(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    truths = draw_sizes(pictures, 20)
    hostile = hostile_files(pictures / "hostile") + more_hostile_files(pictures / "more")
    assert sum(bool(one.code) for one in hostile) >= 40
    summary = run(pictures, str(tmp_path / "root"))
    rows = open_captions(str(tmp_path / "root"), summary.run).read_all().to_pylist()
    found = {row["path"]: row for row in rows}
    expected = {one.path.relative_to(pictures).as_posix(): one.code for one in hostile}
    assert len(rows) == len(truths) + len(hostile)
    assert {path: found[path]["error_code"] for path in expected} == expected
    assert {path: found[path]["caption"] for path in truths} == truths
