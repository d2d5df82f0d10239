"""What leaves by `export` is read back by the tool that it is for, letter for letter."""

import hashlib
import json
import re
import tarfile
from glob import escape
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
import yaml
from curated_runs import lay_run, row
from exported_runs import HOSTILE_CAPTIONS, draw, lay_pictures

from storage.curate import CurateOptions, curate
from storage.curate_recipe import load_recipe
from storage.export import ExportOptions, export
from storage.urls import listing, read_bytes

PATHS = {f"dogs/{number:03}.png": text for number, text in enumerate(HOSTILE_CAPTIONS)}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A root with every hostile caption and one picture that failed."""
    return lay_pictures(tmp_path_factory.mktemp("hostile"), {**PATHS, "dogs/bad.png": None})


def kohya(metadata: Path, image_dir: Path) -> dict[str, str]:
    """Captions by file as sd-scripts reads `metadata_file`: keys are paths without endings."""
    found = {}
    for key, facts in json.loads(metadata.read_text(encoding="utf-8")).items():
        (image,) = image_dir.glob(f"{escape(key)}.*")
        assert facts["caption"]
        found[image.relative_to(image_dir).as_posix()] = facts["caption"]
    return found


def test_txt_files_hold_the_captions_letter_for_letter(hostile: str, tmp_path: Path) -> None:
    done = export(hostile, str(tmp_path / "out"), ExportOptions(to="txt"))
    files = {path.relative_to(tmp_path / "out"): path for path in tmp_path.rglob("*.txt")}
    found = {f"{path.with_suffix('')}.png": file.read_bytes() for path, file in files.items()}
    assert found == {path: text.encode() for path, text in PATHS.items()}
    assert (done.written, done.counts.failed, done.counts.rows) == (11, 1, 12)


def test_sidecars_hold_a_caption_a_line(hostile: str, tmp_path: Path) -> None:
    export(hostile, str(tmp_path / "out"), ExportOptions(to="sidecars"))
    for path, text in PATHS.items():
        lines = (tmp_path / "out" / path).with_suffix(".txt").read_text(encoding="utf-8")
        first, second = lines.split("\n")
        assert first == " ".join(text.splitlines())
        assert second.startswith("another caption")


def test_kohya_finds_every_picture_and_its_caption(hostile: str, tmp_path: Path) -> None:
    export(hostile, str(tmp_path / "out"), ExportOptions(to="kohya", pictures=True))
    assert kohya(tmp_path / "out" / "metadata.json", tmp_path / "out") == PATHS
    pictures = Path(hostile).parent / "pictures"
    bare = tmp_path / "bare"
    export(hostile, str(bare), ExportOptions(to="kohya"))
    assert kohya(bare / "metadata.json", pictures) == PATHS


def test_kohya_gets_no_empty_caption_which_it_would_refuse(tmp_path: Path) -> None:
    root = lay_pictures(tmp_path, {"a.png": "a dog", "b.png": " ", "c.png": ""})
    done = export(root, str(tmp_path / "out"), ExportOptions(to="kohya", pictures=True))
    assert kohya(tmp_path / "out" / "metadata.json", tmp_path / "out") == {"a.png": "a dog"}
    assert (done.written, done.empty) == (1, 2)


def test_datasets_loads_an_imagefolder(
    hostile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import load_dataset

    export(hostile, str(tmp_path / "out"), ExportOptions(to="imagefolder"))
    cache = str(tmp_path / "cache")
    rows = load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), split="train", cache_dir=cache
    )
    found = {one["path"]: one for one in rows}
    assert {path: one["text"] for path, one in found.items()} == PATHS
    assert all(one["captions"][0] == one["text"] for one in found.values())
    pictures = Path(hostile).parent / "pictures"
    for path, one in found.items():
        file = Path(one["image"].filename)
        assert file.read_bytes() == (pictures / path).read_bytes()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its open files
def test_webdataset_reads_new_tars(hostile: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = export(hostile, str(out), ExportOptions(to="webdataset", samples_per_tar=5))
    assert sorted(path.name for path in out.glob("*.tar")) == [
        f"{number:05}.tar" for number in range(3)
    ]
    pipeline = webdataset.WebDataset(f"{out}/{{00000..00002}}.tar", shardshuffle=False)
    samples = [(json.loads(one["json"]), one) for one in pipeline]
    found = {facts["path"]: one["txt"].decode() for facts, one in samples}
    pictures = Path(hostile).parent / "pictures"
    assert all(one["png"] == (pictures / facts["path"]).read_bytes() for facts, one in samples)
    keys = [(one["__key__"], facts["key"]) for facts, one in samples]
    assert found == PATHS
    assert all(name == key for name, key in keys)
    assert done.written == len(PATHS)


def test_datasets_loads_the_parquet_parts_by_their_card(hostile: str, tmp_path: Path) -> None:
    from datasets import load_dataset

    out = tmp_path / "out"
    export(hostile, str(out), ExportOptions(to="parquet"))
    rows = load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert {one["path"]: one["caption"] for one in rows} == {**PATHS, "dogs/bad.png": None}


def random_text(number: int) -> str:
    return "".join(hashlib.sha256(f"{number} {n}".encode()).hexdigest() for n in range(6))


def test_a_part_is_never_larger_than_asked_and_nothing_is_lost(tmp_path: Path) -> None:
    text = [random_text(number) for number in range(12_000)]
    rows = [row(f"{n:05}", path=f"{n}.png", caption=one) for n, one in enumerate(text)]
    root = lay_run(tmp_path / "root", {"0000/00000": rows[:7000], "0000/00001": rows[7000:]})
    export(root, str(tmp_path / "out"), ExportOptions(to="parquet", max_bytes=1_100_000))
    parts = sorted((tmp_path / "out" / "data").glob("*.parquet"))
    assert len(parts) > 2
    assert max(part.stat().st_size for part in parts) <= 1_100_000
    found = pa.concat_tables(pq.read_table(part) for part in parts)
    assert found["caption"].to_pylist() == text


def test_the_card_says_what_the_rows_are_and_no_caption_is_markup(
    hostile: str, tmp_path: Path
) -> None:
    export(hostile, str(tmp_path / "out"), ExportOptions(to="parquet", title="Dogs: a [test]"))
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    _, header, body = card.split("---\n", 2)
    facts = yaml.safe_load(header)
    assert facts["language_creators"] == ["machine-generated"]
    assert facts["size_categories"] == ["n<1K"]
    assert facts["pretty_name"] == "Dogs: a [test]"
    assert "12 rows, one a picture, 11 with a caption and 1 that failed" in body
    assert "<script" not in body
    assert not re.search(r"(?<!\\)\]\(", body)  # no caption makes a link
    assert "\u202e" not in body
    table = [line for line in body.splitlines() if line.startswith("| dogs/")]
    assert len(table) == len(PATHS)
    for line in table:
        assert len(line.replace("\\|", "").split("|")) == 5


@pytest.mark.parametrize("to", ["txt", "sidecars", "kohya", "imagefolder", "webdataset", "parquet"])
def test_an_id_list_selects_and_an_empty_run_exports(to: str, tmp_path: Path) -> None:
    captions = {f"{number}.png": f"caption {number}" for number in range(6)}
    root = lay_pictures(tmp_path, captions)  # type: ignore[arg-type]
    from storage.captions import open_captions

    table = open_captions(root, columns=["shard", "key", "path"]).read_all()
    pq.write_table(table.slice(1, 3).select(["shard", "key"]), tmp_path / "ids.parquet")
    options = ExportOptions(to=to, ids=str(tmp_path / "ids.parquet"))
    done = export(root, str(tmp_path / "out"), options)
    assert (done.written, done.counts.rows, done.counts.unknown) == (3, 6, 0)
    pq.write_table(table.slice(0, 0).select(["shard", "key"]), tmp_path / "none.parquet")
    options = ExportOptions(to=to, ids=str(tmp_path / "none.parquet"))
    assert export(root, str(tmp_path / "none"), options).written == 0


def test_an_export_comes_from_and_lands_in_every_kind_of_store(
    root_url: str, tmp_path: Path
) -> None:
    hostile = lay_pictures(tmp_path, dict(PATHS), root=f"{root_url}/root")  # type: ignore[arg-type]
    for to in ("txt", "webdataset", "parquet"):
        done = export(hostile, f"{root_url}/{to}", ExportOptions(to=to))
        assert done.written >= len(PATHS)
    name = "dogs/000"
    assert read_bytes(f"{root_url}/txt/{name}.txt").decode() == PATHS["dogs/000.png"]
    assert list(listing(f"{root_url}/webdataset")) == ["00000.tar"]


def test_the_card_shows_the_waterfall_of_the_list_it_was_given(
    hostile: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "short.yaml"
    recipe.write_text("recipe: short\nabout: x\nrules:\n  - {column: words, max: 6}\n")
    chosen = CurateOptions(out=str(tmp_path / "chosen"))
    kept = curate(hostile, load_recipe(str(recipe), ()), chosen).kept
    options = ExportOptions(to="parquet", ids=str(tmp_path / "chosen" / "ids.parquet"))
    assert export(hostile, str(tmp_path / "out"), options).written == kept
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "Recipe `short`" in card
    assert f"{kept} of 12 rows kept" in card
    assert "| words: " in card
    assert "--recipe short" in card
    (tmp_path / "chosen" / "waterfall.json").unlink()
    export(hostile, str(tmp_path / "bare"), options)
    assert "chosen by a list of ids" in (tmp_path / "bare" / "README.md").read_text()


def test_tars_of_others_with_equal_keys_lose_none(tmp_path: Path) -> None:
    from planning import plan_batch

    from storage.layout import open_root
    from storage.plan import ShardOptions
    from storage.shards import ShardStore
    from storage.sources import open_source
    from tasks.units.shard import judge

    draw(tmp_path / "one.png", 1)
    for name in ("first", "second"):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            for key in ("0001", "deep/0002", "A1", "a1"):
                tar.add(tmp_path / "one.png", f"{key}.png")
    place = open_root(str(tmp_path / "root"))
    source = open_source(f"{tmp_path}/{{first,second}}.tar", exclude=place.url)
    plan = plan_batch(place, source, ShardOptions())
    assert plan
    shards = {}
    for stem in plan.shards():
        ShardStore(place).adopt(plan, stem, judge)
        shard = plan.shard(stem)
        index = [one for table in ShardStore(place).index(shard) for one in table.to_pylist()]
        sound = [one for one in index if one["status"] == "ok"]
        same = ("path", "sha256", "width", "height", "format")
        shards[str(shard)] = [
            row(one["key"], caption=f"{stem} {one['key']}", **{k: one[k] for k in same})
            for one in sound
        ]
    expected = {one["caption"] for rows in shards.values() for one in rows}
    root = lay_run(tmp_path / "root", shards)
    done = export(root, str(tmp_path / "out"), ExportOptions(to="webdataset"))
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        names = tar.getnames()
        texts = [tar.extractfile(name) for name in names if name.endswith(".txt")]
        assert {file.read().decode() for file in texts if file} == expected
    assert len(names) == len({name.casefold() for name in names}) == 3 * len(expected)
    assert done.counts.renamed == len(expected) // 2


def test_a_tar_holds_what_any_tar_reader_expects(hostile: str, tmp_path: Path) -> None:
    export(hostile, str(tmp_path / "out"), ExportOptions(to="webdataset"))
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        names = tar.getnames()
    assert len(names) == 3 * len(PATHS)
    assert {Path(name).suffix for name in names} == {".png", ".txt", ".json"}
