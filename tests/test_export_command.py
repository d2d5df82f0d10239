"""`nightcap export` and `nightcap report` as a person or a script calls them."""

import json
from pathlib import Path

import pytest
from collections_of_pictures import draw_sizes
from exported_runs import lay_pictures
from report_pages import Parsed
from test_run import run
from typer.testing import CliRunner, Result

from flows.cli import app


def nightcap(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def test_export_ends_with_one_json_object(tmp_path: Path) -> None:
    root = lay_pictures(tmp_path, {"a.png": "a dog", "b.png": None})
    done = nightcap("export", root, tmp_path / "out", "--to", "kohya", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["command"], found["ok"], found["run"]) == ("export", True, "run")
    assert (found["rows"], found["written"], found["without_caption"]) == (2, 1, 1)
    assert found["outputs"] == [f"{tmp_path}/out/metadata.json"]


def test_a_shard_that_fails_is_named_and_ends_with_1(tmp_path: Path) -> None:
    root = lay_pictures(tmp_path, {"a.png": "a dog"})
    (Path(root) / "shards" / "0000" / "00000.tar").unlink()
    done = nightcap("export", root, tmp_path / "out", "--to", "imagefolder")
    assert done.exit_code == 1
    assert "failed: shard 0000/00000" in done.stdout
    assert "0 of 1 rows exported" in done.stdout


def test_report_says_where_the_page_is(tmp_path: Path) -> None:
    root = lay_pictures(tmp_path, {"a.png": "a dog"})
    done = nightcap("report", root, "--json")
    (url,) = json.loads(done.stdout.splitlines()[-1])["outputs"]
    assert url == f"{root}/captions/run/report.html"
    done = nightcap("report", root, "--out", tmp_path / "page.html")
    assert done.stdout.strip() == f"output: {tmp_path}/page.html"
    assert (tmp_path / "page.html").read_bytes() == Path(url).read_bytes()


@pytest.mark.usefixtures("prefect_api")
def test_a_run_ends_with_its_page_and_an_idle_one_leaves_it(tmp_path: Path) -> None:
    draw_sizes(tmp_path / "pictures", 6)
    summary = run(tmp_path / "pictures", str(tmp_path / "root"))
    page = Path(summary.facts["report"])
    assert page == tmp_path / "root" / "captions" / summary.run / "report.html"
    found = Parsed(page.read_text(encoding="utf-8"))
    assert "A picture of 20 by 30 pixels." in found.captions
    assert "nightcap run" in found.text
    shown = {attrs["alt"] for attrs in found.tags("img") if "jpeg" in attrs["src"]}
    assert len(shown) == 6
    before = page.stat().st_mtime_ns
    run(tmp_path / "pictures", str(tmp_path / "root"))
    assert page.stat().st_mtime_ns == before
    page.unlink()
    run(tmp_path / "pictures", str(tmp_path / "root"))
    assert page.exists()
