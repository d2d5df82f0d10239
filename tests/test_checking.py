"""Captions scored again from their pictures: what stands in a wrong row is found."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_run import HERE, run

from flows.cli import app
from storage.errors import ConfigurationError
from storage.plan import ShardOptions
from tasks.checking import CheckOptions, check
from tasks.ingest import IngestOptions
from tasks.options import CaptionOptions, ComputeOptions

PAYLOAD = ["caption", "caption_logprob", "n_tokens", "clip_sim", "captions"]


def draw_many(folder: Path, count: int) -> None:
    """Pictures of very different shapes, so that `size` captions score apart."""
    rng = np.random.default_rng(5)
    folder.mkdir(parents=True)
    for at in range(count):
        width, height = (int(side) for side in rng.integers(20, 250, 2))
        Image.new("RGB", (width, height), (at % 251, 90, 160)).save(folder / f"{at:04}.png")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, prefect_api: None) -> Path:
    """A root with 260 captions in three shards, some pictures damaged."""
    home = tmp_path_factory.mktemp("checked")
    draw_many(home / "pictures", 260)
    (home / "pictures" / "damaged.png").write_text("no picture")
    run(
        home / "pictures",
        str(home / "root"),
        ingest=IngestOptions(shards=ShardOptions(samples_per_shard=100)),
        captions=CaptionOptions(model="size", run="sizes", compute=ComputeOptions(threads=1)),
    )
    return home / "root"


def test_pictures_are_embedded_again_in_the_precision_that_embedded_them(
    tmp_path: Path, prefect_api: None
) -> None:
    """A wide encoder and a narrow language model: `auto` may choose another for each of them."""
    draw_many(tmp_path / "pictures", 24)
    run(
        tmp_path / "pictures",
        str(tmp_path / "root"),
        captions=CaptionOptions(model="nano", compute=ComputeOptions(threads=1)),
    )
    found = check(str(tmp_path / "root"), CheckOptions())
    assert found["worst"] <= 1e-4


def spoiled(clean: Path, folder: Path, order: Any, names: list[str] = PAYLOAD) -> str:
    """A copy of the root where `order(n)` says from which rows the columns `names` come."""
    root = folder / "root"
    shutil.copytree(clean, root)
    for path in root.glob("captions/sizes/*/*.parquet"):
        table = pq.read_table(path)
        moved = table.take(pa.array(order(table.num_rows)))
        for name in names:
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(at), moved[name])
        pq.write_table(table, path, row_group_size=10_000)
    return str(root)


def shift(count: int) -> Any:
    return np.roll(np.arange(count), 1)


def swap(count: int) -> Any:
    """Five rows of a hundred change places among themselves."""
    order = np.arange(count)
    some = np.random.default_rng(1).choice(count, max(2, count // 20), replace=False)
    order[some] = np.roll(some, 1)
    return order


def test_a_clean_run_raises_no_alarm(clean: Path) -> None:
    found = check(str(clean), CheckOptions())
    assert found["alarms"] == []
    assert (found["rows"], found["shards"], found["off"]) == (260, 3, 0)
    assert found["worst"] <= 1e-3
    assert found["margin"] > 0
    assert found["blank_share"] == 0.0


@pytest.mark.parametrize("order", [shift, swap])
@pytest.mark.parametrize("names", [PAYLOAD, ["caption"]])
def test_shifted_and_swapped_rows_raise_the_alarm(
    order: Any, names: list[str], clean: Path, tmp_path: Path
) -> None:
    """Whether scores moved with their captions or stayed behind."""
    found = check(spoiled(clean, tmp_path, order, names), CheckOptions())
    assert "score" in [one["alarm"] for one in found["alarms"]]
    least = 200 if order is shift else 8
    assert least <= found["off"] <= (260 if order is shift else 13)
    assert found["examples"][0]["shard"] == "0000/00000"


def test_the_command_says_it_loudly_and_leaves_with_one(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app(["check", str(clean), "--rows", "40"], standalone_mode=False)
    assert "40 captions of 3 shards scored again, 0 off" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        app(["check", spoiled(clean, tmp_path, shift)], standalone_mode=False)
    assert left.value.code == 1
    assert "ALARM score:" in capsys.readouterr().out


def test_captions_of_a_blank_picture_are_told(clean: Path, tmp_path: Path) -> None:
    """`size` says of a blank picture how large that is; here a tenth of the rows say the same."""
    root = tmp_path / "root"
    shutil.copytree(clean, root)
    for path in root.glob("captions/sizes/*/*.parquet"):
        table = pq.read_table(path)
        said = table["caption"].to_pylist()
        said[:10] = ["A picture of 256 by 256 pixels."] * min(10, len(said))
        at = table.schema.get_field_index("caption")
        table = table.set_column(at, table.schema.field(at), pa.array(said))
        pq.write_table(table, path)
    found = check(str(root), CheckOptions())
    assert [one["alarm"] for one in found["alarms"]] == ["score", "blank"]
    assert found["blank_share"] == pytest.approx(30 / 260)


def test_what_cannot_be_checked_is_said_in_one_sentence(clean: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no run 'other'"):
        check(str(clean), CheckOptions(run="other"))
    with pytest.raises(ConfigurationError, match="'nano' is not the encoder that scored"):
        check(str(clean), CheckOptions(encoder="nano"))
    draw_many(tmp_path / "pictures", 3)
    unscored = CaptionOptions(model="size", score=False, compute=ComputeOptions(threads=1))
    run(tmp_path / "pictures", str(tmp_path / "root"), captions=unscored, lanes=HERE)
    with pytest.raises(ConfigurationError, match="no scores"):
        check(str(tmp_path / "root"), CheckOptions())
