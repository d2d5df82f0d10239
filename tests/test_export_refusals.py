"""Exports that are interrupted, refused, or lack their pictures: told, and nothing lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collections_of_pictures import snapshot
from curated_runs import failed, lay_run, row
from exported_runs import HOSTILE_CAPTIONS, lay_pictures

from storage.errors import ConfigurationError, ShardError
from storage.export import ExportOptions, export

PATHS = {f"dogs/{number:03}.png": text for number, text in enumerate(HOSTILE_CAPTIONS)}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A root with every hostile caption and one picture that failed."""
    return lay_pictures(tmp_path_factory.mktemp("hostile"), {**PATHS, "dogs/bad.png": None})


def test_a_list_for_another_run_is_refused(hostile: str, tmp_path: Path) -> None:
    ids = pa.table({"shard": ["0009/00000"], "key": ["x"]})
    pq.write_table(ids, tmp_path / "ids.parquet")
    options = ExportOptions(to="txt", ids=str(tmp_path / "ids.parquet"))
    with pytest.raises(ConfigurationError, match="none of the 1 ids"):
        export(hostile, str(tmp_path / "out"), options)
    pq.write_table(ids.select(["key"]), tmp_path / "ids.parquet")
    with pytest.raises(ConfigurationError, match="no column 'shard'"):
        export(hostile, str(tmp_path / "out"), options)
    with pytest.raises(ConfigurationError, match="no id list"):
        export(hostile, str(tmp_path / "out"), ExportOptions(to="txt", ids="nowhere.parquet"))


class Killed(Exception):
    """Stands for a process that ends in the middle."""


def dying(after: int) -> Callable[[int], object]:
    """A listener that ends the export once so many rows are done."""
    done = 0

    def tell(rows: int) -> None:
        nonlocal done
        done += rows
        if done >= after:
            raise Killed

    return tell


@pytest.mark.parametrize("to", ["txt", "imagefolder", "webdataset", "kohya", "parquet"])
def test_an_interrupted_export_goes_on_and_ends_with_the_same_bytes(
    to: str, hostile: str, tmp_path: Path
) -> None:
    options = ExportOptions(to=to, samples_per_tar=3)
    with pytest.raises(Killed):
        export(hostile, str(tmp_path / "out"), options, tell=dying(5))
    cut = snapshot(tmp_path / "out")
    done = export(hostile, str(tmp_path / "out"), options)
    export(hostile, str(tmp_path / "whole"), options)
    whole = snapshot(tmp_path / "whole")
    assert snapshot(tmp_path / "out") == whole
    assert len(cut) < len(whole)
    assert done.written == (12 if to == "parquet" else 11)


def test_what_is_done_is_not_read_again(tmp_path: Path) -> None:
    root = lay_pictures(tmp_path, {f"{n}.png": f"caption {n}" for n in range(8)})
    options = ExportOptions(to="imagefolder")
    export(root, str(tmp_path / "out"), options)
    before = snapshot(tmp_path / "out")
    for tar in Path(root).rglob("*.tar"):
        tar.unlink()
    assert export(root, str(tmp_path / "out"), options).failed_shards == {}
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize("to", ["imagefolder", "webdataset"])
def test_a_shard_whose_tar_is_gone_costs_that_shard_and_comes_back_with_it(
    to: str, tmp_path: Path
) -> None:
    root = lay_pictures(tmp_path, {f"{n}.png": f"caption {n}" for n in range(12)})
    tar = Path(root) / "shards" / "0000" / "00001.tar"
    kept = tar.read_bytes()
    tar.unlink()
    options = ExportOptions(to=to, samples_per_tar=3)
    done = export(root, str(tmp_path / "out"), options)
    assert list(done.failed_shards) == ["0000/00001"]
    assert "missing" in done.failed_shards["0000/00001"]
    assert done.written == 8
    tar.write_bytes(kept)
    assert export(root, str(tmp_path / "out"), options).written == 12
    export(root, str(tmp_path / "whole"), options)
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


def test_a_picture_that_is_not_the_captioned_one_is_not_exported(tmp_path: Path) -> None:
    root = lay_pictures(tmp_path, {"a.png": "a dog"}, sha256="0" * 64)
    done = export(root, str(tmp_path / "out"), ExportOptions(to="imagefolder"))
    assert "not the one that was captioned" in done.failed_shards["0000/00000"]
    assert list((tmp_path / "out").rglob("*.png")) == []


def test_a_folder_with_something_else_and_another_export_are_refused(
    hostile: str, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"holds something else \('thesis.txt'\)"):
        export(hostile, str(tmp_path / "mine"), ExportOptions(to="txt"))
    export(hostile, str(tmp_path / "out"), ExportOptions(to="txt"))
    with pytest.raises(ConfigurationError, match=r"another export.*'txt'"):
        export(hostile, str(tmp_path / "out"), ExportOptions(to="kohya"))
    with pytest.raises(ConfigurationError, match="inside ROOT"):
        export(hostile, f"{hostile}/out", ExportOptions(to="txt"))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"to": "tfrecord"}, "no format 'tfrecord'"),
        ({"to": "imagefolder", "pictures": False}, "cannot do without"),
        ({"to": "parquet", "pictures": True}, "takes no pictures"),
        ({"to": "webdataset", "names": "path"}, "takes no --names 'path'"),
    ],
)
def test_options_that_do_not_go_together_are_told(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        ExportOptions(**given)


def test_captions_of_stored_embeddings_have_no_pictures(tmp_path: Path) -> None:
    root = lay_run(tmp_path / "root", {"laid/00000": [row("a"), failed("b")]})
    with pytest.raises(ConfigurationError, match="no pictures for shard laid/00000"):
        export(root, str(tmp_path / "out"), ExportOptions(to="webdataset"))
    assert export(root, str(tmp_path / "rows"), ExportOptions(to="parquet")).written == 2


def test_a_damaged_run_is_told_and_not_half_exported_in_silence(tmp_path: Path) -> None:
    root = lay_pictures(tmp_path, {f"{n}.png": f"caption {n}" for n in range(8)})
    (file,) = (Path(root) / "captions" / "run" / "0000").glob("00001-*.parquet")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ShardError, match="00001-"):
        export(root, str(tmp_path / "out"), ExportOptions(to="txt"))


def test_memory_holds_one_picture_however_many_there_are(tmp_path: Path) -> None:
    import tracemalloc

    captions: dict[str, str | None] = {f"{n:03}.png": f"caption {n}" for n in range(40)}
    root = lay_pictures(tmp_path, captions, per_shard=20, side=600)
    size = max(path.stat().st_size for path in (tmp_path / "pictures").iterdir())
    assert size > 1_000_000
    for to in ("imagefolder", "webdataset"):
        tracemalloc.start()
        export(root, str(tmp_path / to), ExportOptions(to=to))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10 * size
