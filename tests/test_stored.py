"""Embeddings of others: captioned and learnt from where they lie, with no picture in sight."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from collections_of_pictures import snapshot
from stored_sets import lay_set, npy, parquet, put, said, sizes

from captioner.errors import ModelError
from flows.finished import finished_captions
from flows.status import status
from storage import open_captions
from storage.errors import ConfigurationError, ShardError
from storage.layout import Root, ShardName
from storage.stored import StoredEmbeddings, register_stored, stored_settings
from storage.stored_folder import StoredFolder
from tasks.options import (
    CaptionOptions,
    ComputeOptions,
    DecodeOptions,
    EmbedOptions,
    LaneOptions,
    TrainOptions,
)
from tasks.spaces import caption_space, training_space

HERE = LaneOptions(lanes=0)
CPU = ComputeOptions(threads=1, device="cpu")
UNUSED = EmbedOptions(encoder="size")


def size_options(folder: object, **changes: Any) -> CaptionOptions:
    return CaptionOptions(model="size", embeddings=str(folder), compute=CPU, **changes)


def caption(root: object, options: CaptionOptions) -> Any:
    from flows.caption import caption as flow
    from flows.stage import outcome

    return outcome(flow(str(root), options, UNUSED, HERE, return_state=True))


def rows(root: object, run: str) -> list[dict[str, Any]]:
    table: pa.Table = open_captions(str(root), run).read_all()
    return table.to_pylist()


def laion(url: str) -> str:
    """Two shards with the columns of LAION's metadata, numbers padded as the writer pads them."""
    lay_set(
        url,
        "0000",
        sizes((300, 200), (640, 480), (1000, 10)),
        {
            "image_path": ["000000000", "000000001", "000000002"],
            "caption": ["a dog\n", None, " "],
            "NSFW": ["UNLIKELY"] * 3,
            "url": ["https://u:p@h/a.jpg?sig=1", None, "https://h/c.jpg"],
            "key": ["k0", "k1", "k2"],
            "sha256": ["ab" * 32, "no hash", None],
            "width": [300.0, math.nan, 0.0],
            "height": [200, None, 10],
            "original_width": [9, 640, 1000],
        },
    )
    return lay_set(
        url, "0001", sizes((7, 8)), {"image_path": ["000010000"], "caption": [["one", "", "two"]]}
    )


@pytest.mark.usefixtures("prefect_api")
def test_a_folder_is_captioned_without_its_pictures(root_url: str) -> None:
    folder = laion(root_url.replace("/root", "/given") + "/laion")
    summary = caption(root_url, size_options(folder))
    assert summary.ok
    assert summary.totals == summary.totals | {"rows": 4, "captioned": 4, "failed": 0}
    found = rows(root_url, summary.run)
    assert [(row["shard"], row["key"], row["caption"]) for row in found] == [
        ("laion/0000", "k0", said(300, 200)),
        ("laion/0000", "k1", said(640, 480)),
        ("laion/0000", "k2", said(1000, 10)),
        ("laion/0001", "000010000", said(7, 8)),
    ]
    assert [row["path"] for row in found] == ["000000000", "000000001", "000000002", "000010000"]
    assert [row["url"] for row in found] == ["https://h/a.jpg", None, "https://h/c.jpg", None]
    assert [row["orig_caption"] for row in found] == ["a dog", None, None, "one"]
    assert [row["sha256"] for row in found] == ["ab" * 32, None, None, None]
    assert [row["width"] for row in found] == [300, 640, 1000, None]
    assert [row["height"] for row in found] == [200, None, 10, None]
    assert {row["phash"] for row in found} == {row["format"] for row in found} == {None}


@pytest.mark.usefixtures("prefect_api")
def test_a_second_run_writes_nothing_and_a_changed_file_is_done_again(tmp_path: Path) -> None:
    folder, root = laion(str(tmp_path / "laion")), tmp_path / "root"
    options = size_options(folder)
    assert finished_captions(str(root), options, UNUSED) is None
    run = caption(root, options).run
    before = snapshot(root)
    done = finished_captions(str(root), options, UNUSED)
    assert done is not None
    assert (done.stages[0].requested, done.stages[0].skipped) == (2, 2)
    assert status(str(root))["ok"]
    assert snapshot(root) == before

    (tmp_path / "laion/metadata/metadata_0001.parquet").touch()
    assert finished_captions(str(root), options, UNUSED), "only its time changed, not its bytes"
    lay_set(folder, "0001", sizes((9, 9)), {"image_path": ["000010000"]})
    lay_set(folder, "0002", sizes((4, 5), (6, 5)), {"image_path": ["a", "b"]})
    assert finished_captions(str(root), options, UNUSED) is None
    (line,) = [line for line in status(str(root))["stages"] if line["stage"] == "caption"]
    assert (line["shards"], line["missing"], list(line["stale"])) == (3, 1, ["laion/0001"])
    summary = caption(root, options)
    assert (summary.run, summary.stages[0].rows) == (run, 3)
    texts = [row["caption"] for row in rows(root, run)]
    assert texts[3:] == [said(9, 9), said(4, 5), said(6, 5)]


@pytest.mark.usefixtures("prefect_api")
def test_what_is_written_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    runs = []
    for place in ("one", "two"):
        folder = laion(str(tmp_path / place / "laion"))
        runs.append(caption(tmp_path / f"root-{place}", size_options(folder)).run)
    assert runs[0] == runs[1]
    first, second = (
        {name: data for name, data in snapshot(tmp_path / root).items() if name[-5:] != ".json"}
        for root in ("root-one", "root-two")
    )
    assert first == second


@pytest.mark.usefixtures("prefect_api")
def test_two_folders_of_one_name_are_two_batches_of_two_runs(tmp_path: Path) -> None:
    """Their keys and paths may be the same and mean other pictures."""
    root = tmp_path / "root"
    one = laion(str(tmp_path / "one" / "embeddings"))
    two = lay_set(
        f"{tmp_path}/two/embeddings", "0000", sizes((5, 5)), {"image_path": ["000000000"]}
    )
    first, second = caption(root, size_options(one)), caption(root, size_options(two))
    assert first.run != second.run
    assert {row["shard"] for row in rows(root, first.run)} == {
        "embeddings/0000",
        "embeddings/0001",
    }
    assert [row["shard"] for row in rows(root, second.run)] == ["embeddings-2/0000"]
    assert len(rows(root, first.run)) == 4
    assert finished_captions(str(root), size_options(one), UNUSED)
    with pytest.raises(ConfigurationError, match="choose another name"):
        caption(root, size_options(two, run=first.run))


@pytest.mark.usefixtures("prefect_api")
def test_rows_that_cannot_be_captioned_are_rows_that_say_so(tmp_path: Path) -> None:
    image_NC = sizes((1, 2), (3, 4), (5, 6), (7, 8), (9, 9), (1, 1), (2, 2))
    image_NC[1, 0], image_NC[2, 3], image_NC[3] = np.nan, np.inf, 0
    keys = ["a", "nan", "inf", "zero", "a", "a#2", "a"]
    folder = lay_set(f"{tmp_path}/set", "0", image_NC, {"key": keys, "caption": keys})
    summary = caption(tmp_path / "root", size_options(folder))
    assert summary.ok, "bad rows are no failed shard"
    found = rows(tmp_path / "root", summary.run)
    assert {row["key"]: row["caption"] or row["error_code"] for row in found} == {
        "a": said(1, 2),
        "nan": "model_error",
        "inf": "model_error",
        "zero": "model_error",
        "a#3": "duplicate_key",
        "a#2": said(1, 1),
        "a#4": "duplicate_key",
    }
    assert [row["orig_caption"] for row in found] == keys
    assert summary.stages[0].failures == {"duplicate_key": 2, "model_error": 3}


@pytest.mark.usefixtures("prefect_api")
def test_a_folder_that_went_away_leaves_its_captions_and_their_status(tmp_path: Path) -> None:
    folder, root = laion(str(tmp_path / "laion")), tmp_path / "root"
    run = caption(root, size_options(folder)).run
    (tmp_path / "laion").rename(tmp_path / "elsewhere")
    assert status(str(root))["ok"]
    assert len(rows(root, run)) == 4
    with pytest.raises(ConfigurationError, match="give the folder that holds img_emb"):
        finished_captions(str(root), size_options(folder), UNUSED)


def written(folder: str, number: str = "0") -> StoredEmbeddings:
    root = Root(f"{folder}-root")
    there = StoredFolder(folder)
    return StoredEmbeddings(root, register_stored(root, there, there.look()))


def index_of(folder: str, number: str = "0") -> list[dict[str, Any]]:
    source = written(folder)
    batch = next(source.offered()).name.batch
    return [row for index, _ in source.open(ShardName(batch, number)) for row in index.to_pylist()]


@pytest.mark.parametrize(
    ("columns", "keys"),
    [
        ({"caption": ["x", "y", "z"]}, ["0", "1", "2"]),
        ({"image_path": ["p/a.jpg", "", None]}, ["p/a.jpg", "1", "2"]),
        ({"key": [12, 13, None], "image_path": ["a", "b", "c"]}, ["12", "13", "2"]),
        ({"key": pa.array(["a", "b", "b"]).dictionary_encode()}, ["a", "b", "b#2"]),
        ({"key": ["1", None, "1#2"]}, ["1", "1#3", "1#2"]),
    ],
)
def test_keys_come_from_key_or_path_or_number(
    tmp_path: Path, columns: dict[str, Any], keys: list[str]
) -> None:
    folder = lay_set(f"{tmp_path}/set", "0", sizes((1, 2), (3, 4), (5, 6)), columns)
    assert [row["key"] for row in index_of(folder)] == keys


def test_a_long_shard_is_given_in_slices_that_fit_its_metadata(tmp_path: Path) -> None:
    """Row groups of the metadata end elsewhere than slices; rows must stay beside their keys."""
    count = 25_000
    image_NC = sizes(*((1 + n % 500, 1 + n // 500) for n in range(count)))
    put(f"{tmp_path}/set/img_emb/img_emb_0.npy", npy(image_NC.astype(np.float16)))
    table = {"key": [f"k{n}" for n in range(count)]}
    put(f"{tmp_path}/set/metadata/metadata_0.parquet", parquet(table, row_group_size=7_000))
    rows_of = written(f"{tmp_path}/set").open(ShardName("set", "0"))
    parts = list(rows_of)
    assert [index.num_rows for index, _ in parts] == [10_000, 10_000, 5_000]
    index, seen = (pa.concat_tables([part[side] for part in parts]) for side in (0, 1))
    assert index["key"].to_pylist() == seen["key"].to_pylist() == table["key"]
    values = np.array(seen["embedding"].to_pylist(), dtype=np.float32)
    assert np.array_equal(values, image_NC)


def test_inputs_are_the_files_as_they_were_read(root_url: str) -> None:
    import hashlib

    folder = root_url.replace("/root", "/given") + "/set"
    image_NC, columns = sizes((1, 2), (3, 4)), {"key": ["a", "b"]}
    lay_set(folder, "7", image_NC, columns)
    there = StoredFolder(folder)
    root = Root(root_url)
    source = StoredEmbeddings(root, register_stored(root, there, there.look()))
    (offered,) = source.offered()
    opened = source.open(offered.name)
    assert sum(index.num_rows for index, _ in opened) == 2
    array, metadata = opened.inputs()
    assert array.sha256 == hashlib.sha256(npy(image_NC)).hexdigest()
    assert metadata.sha256 == hashlib.sha256(parquet(columns)).hexdigest()
    assert source.hashes() == [[array.sha256, metadata.sha256]]
    assert (array.size, bool(array.stamp)) == (len(npy(image_NC)), True)
    assert [file.url for file in opened.inputs()] == [file.url for file in offered.inputs]
    assert array.url.endswith("given/set/img_emb/img_emb_7.npy")


UNIT = sizes((3, 4), (3, 4)) / np.linalg.norm(sizes((3, 4)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (npy(np.array([{}, {}], dtype=object), allow_pickle=True), "holds pickled Python objects"),
        (npy(sizes((1, 2))[0]), "has the shape \\(5,\\), not \\(rows, width\\)"),
        (npy(sizes((1, 2), (3, 4)).astype(np.int64)), "holds int64, not float16 or float32"),
        (npy(sizes((1, 2), (3, 4)).astype(np.float64)), "holds float64"),
        (npy(np.asfortranarray(sizes((1, 2), (3, 4)))), "stored by columns"),
        (npy(sizes((1, 2), (3, 4)))[:-4], "has 164 bytes, its header promises 168"),
        (npy(sizes((1, 2))), "has 1 rows, .*metadata_0.parquet' has 2"),
        (b"", "is no .npy file of numbers"),
        (b"\x93NUMPY\x09\x00" + b"x" * 200, "is no .npy file of numbers"),
        (b"\x80\x04N.", "is no .npy file of numbers"),
        (npy(np.full((2, 5), np.nan, np.float32)), "holds no row with finite numbers"),
        (npy(np.concatenate([UNIT[:1], sizes((1, 2))])), "mixed: 1 of 2 sampled rows .* 2.449 to"),
    ],
)
def test_an_array_that_cannot_be_used_is_refused_before_any_work(
    tmp_path: Path, array: bytes, message: str
) -> None:
    put(f"{tmp_path}/set/img_emb/img_emb_0.npy", array)
    put(f"{tmp_path}/set/metadata/metadata_0.parquet", parquet({"key": ["a", "b"]}))
    with pytest.raises(ConfigurationError, match=message) as caught:
        caption_space(Root(f"{tmp_path}/root"), size_options(tmp_path / "set"), UNUSED)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "root").exists()


@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header")
def test_a_damaged_header_is_an_error_of_ours_and_nothing_worse() -> None:
    """numpy parses it as Python, and lets errors of the tokenizer through."""
    import io
    import random

    from storage.npy import read_header

    good, draw, refused = npy(sizes((1, 2), (3, 4))), random.Random(1), 0
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(128)] = draw.choice([*b"(),'[{\n", draw.randrange(256)])
        try:
            read_header(io.BytesIO(data[: draw.choice([128, 200, draw.randrange(128)])]), "x.npy")
        except ShardError:
            refused += 1
    assert refused > 1000


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no img_emb/img_emb_0.npy or the like: give the folder that"),
        ({"img_emb/other.npy": b""}, "has no img_emb/img_emb_0.npy"),
        ({"img_emb/img_emb_3.npy": b""}, "img_emb_3.npy, but no metadata/metadata_3.parquet"),
        (
            {"img_emb/img_emb_0.npy": npy(sizes((1, 2))), "metadata/metadata_0.parquet": b"no"},
            "is not a whole Parquet file",
        ),
        (
            {
                "img_emb/img_emb_0.npy": npy(sizes((1, 2))),
                "metadata/metadata_0.parquet": parquet({"key": ["a"]}),
                "img_emb/img_emb_1.npy": npy(np.ones((1, 4), np.float32)),
                "metadata/metadata_1.parquet": parquet({"key": ["a"]}),
            },
            "several widths: \\[4, 5\\]",
        ),
    ],
)
def test_a_folder_of_another_kind_is_refused(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    (tmp_path / "set").mkdir()
    for name, data in files.items():
        put(f"{tmp_path}/set/{name}", data)
    with pytest.raises(ConfigurationError, match=message):
        caption_space(Root(f"{tmp_path}/root"), size_options(tmp_path / "set"), UNUSED)


@pytest.mark.parametrize(
    ("array", "metadata", "message"),
    [
        (npy(sizes((1, 2))), parquet({"key": ["a", "b"]}), "has 1 rows, .* has 2"),
        (npy(np.ones((1, 4), np.float32)), parquet({"key": ["a"]}), "width 4, but .* with 5"),
        (npy(UNIT[:1]), parquet({"key": ["a"]}), "registered with rows of other lengths"),
        (npy(sizes((1, 2))), parquet({"key": [{"a": 1}]}), "cannot be read as text"),
    ],
)
def test_a_shard_that_came_later_and_does_not_fit_is_an_error_of_its_own(
    tmp_path: Path, array: bytes, metadata: bytes, message: str
) -> None:
    folder = lay_set(f"{tmp_path}/set", "0", sizes((1, 2)), {"key": ["a"]})
    source = written(folder)
    put(f"{folder}/img_emb/img_emb_1.npy", array)
    put(f"{folder}/metadata/metadata_1.parquet", metadata)
    with pytest.raises(ShardError, match=message):
        list(source.open(ShardName("set", "1")))


def test_a_file_that_changes_while_it_is_read_is_not_believed(tmp_path: Path) -> None:
    folder = lay_set(f"{tmp_path}/set", "0", sizes((1, 2)), {"key": ["a"]})
    opened = written(folder).open(ShardName("set", "0"))
    with pytest.raises(ShardError, match="changed while it was read"):
        assert [lay_set(folder, "0", sizes((1, 2), (2, 2)), {"key": ["a", "b"]}) for _ in opened]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("normalized", [True, False])
def test_normalisation_is_told_from_the_rows(tmp_path: Path, dtype: Any, normalized: bool) -> None:
    draw = np.random.default_rng(0).standard_normal((500, 512)) * 0.4
    if normalized:
        draw /= np.linalg.norm(draw, axis=1, keepdims=True)
    draw[3] = 0
    folder = lay_set(f"{tmp_path}/set", "0", draw.astype(dtype), {"key": list(range(500))})
    look = StoredFolder(folder).look()
    assert (look.normalized, look.dim, look.value) == (normalized, 512, np.dtype(dtype).name)


def test_the_encoder_is_taken_from_the_model_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = lay_set(f"{tmp_path}/set", "0", sizes((1, 2)), {"key": ["a"]})
    with caplog.at_level(logging.WARNING):
        space = caption_space(Root(f"{tmp_path}/root"), size_options(folder), UNUSED)
    assert space.resolved["encoder"] == "size"
    assert [record.message for record in caplog.records] == [
        f"the encoder of {folder!r} is not written in its files: taken to be 'size', as the model's"
    ]
    (name,) = (path.name for path in (tmp_path / "root" / "embeddings").iterdir())
    kept = stored_settings(Root(f"{tmp_path}/root")).read(name)
    assert kept is not None
    assert "encoder" not in kept.resolved
    assert kept.resolved["normalized"] is False


def refused(tmp_path: Path, options: CaptionOptions) -> str:
    with pytest.raises(ConfigurationError) as caught:
        caption_space(Root(f"{tmp_path}/root"), options, UNUSED)
    assert not (tmp_path / "root").exists()
    return str(caught.value)


def test_a_width_that_the_model_does_not_read_is_refused(tmp_path: Path) -> None:
    folder = lay_set(f"{tmp_path}/set", "0", np.ones((1, 4), np.float32), {"key": ["a"]})
    assert "width 5, but those in" in refused(tmp_path, size_options(folder))


def test_a_model_of_normalised_embeddings_refuses_others(tmp_path: Path) -> None:
    image_NC = np.full((1, 256), 7, np.float32)
    folder = lay_set(f"{tmp_path}/set", "0", image_NC, {"key": ["a"]})
    options = CaptionOptions(model="nano", embeddings=folder)
    assert "reads embeddings of length 1" in refused(tmp_path, options)


@pytest.mark.usefixtures("prefect_api")
def test_normalised_embeddings_go_to_a_model_of_others_only_with_a_scale(tmp_path: Path) -> None:
    norm = float(np.linalg.norm(sizes((3, 4))))
    folder = lay_set(f"{tmp_path}/set", "0", UNIT, {"key": ["a", "b"]})
    assert "--embedding-scale" in refused(tmp_path, size_options(folder))
    for scale in (0.0, -1.0, math.inf, math.nan):
        assert "above 0" in refused(tmp_path, size_options(folder, embedding_scale=scale))
    root = tmp_path / "root"
    runs = [caption(root, size_options(folder, embedding_scale=k * norm)).run for k in (1, 2)]
    assert [row["caption"] for row in rows(root, runs[0])] == [said(3, 4)] * 2
    assert [row["caption"] for row in rows(root, runs[1])] == [said(6, 8)] * 2
    with pytest.raises(ConfigurationError, match="--embedding-scale"):
        finished_captions(str(root), size_options(folder), UNUSED)


def test_a_scale_that_nothing_needs_is_refused(tmp_path: Path) -> None:
    folder = lay_set(f"{tmp_path}/set", "0", sizes((1, 2)), {"key": ["a"]})
    assert "is not for this" in refused(tmp_path, size_options(folder, embedding_scale=2.0))
    assert "give --embeddings too" in refused(tmp_path, size_options("", embedding_scale=2.0))


def train(root: object, folder: str, **changes: Any) -> Any:
    from flows.stage import outcome
    from flows.train import train as flow

    options = TrainOptions(
        recipe="nano-scratch", out="mine", steps=2, embeddings=folder, compute=CPU, **changes
    )
    return outcome(flow(str(root), options, UNUSED, HERE, return_state=True))


@pytest.mark.usefixtures("prefect_api")
def test_a_model_learns_from_stored_embeddings_and_captions_them(tmp_path: Path) -> None:
    """Width 24, no encoder known: only captions and numbers are there, and they are enough."""
    image_NC = np.random.default_rng(0).standard_normal((12, 24)).astype(np.float16)
    captions = [["a red dog", "a dog"], "a blue cat", None, ""] * 3
    table = pa.array([c if isinstance(c, list) else [c] for c in captions], pa.list_(pa.string()))
    folder = lay_set(f"{tmp_path}/set", "0", image_NC, {"caption": table})
    root = tmp_path / "root"
    summary = train(root, folder)
    assert summary.ok
    assert summary.facts["examples"] + summary.facts["held_out"] == 6
    name = str(summary.facts["model"]).replace("@", "/")
    record = json.loads((root / "models" / name / "training.json").read_text())
    learnt = [at for at, caption in enumerate(captions) if caption]
    norms = np.linalg.norm(image_NC[learnt].astype(np.float64), axis=1)
    assert record["result"]["embedding_norm_mean"] == pytest.approx(norms.mean(), rel=1e-12)
    assert record["encoder"] == record["encoder"] | {"name": "", "dim": 24, "normalized": False}

    options = CaptionOptions(
        model="mine", embeddings=folder, decode=DecodeOptions(max_tokens=4), compute=CPU
    )
    done = caption(root, options)
    assert done.totals["captioned"] == 12

    unit_NC = image_NC / np.linalg.norm(image_NC.astype(np.float32), axis=1, keepdims=True)
    other = lay_set(f"{tmp_path}/unit", "0", unit_NC, {"caption": table})
    with pytest.raises(ConfigurationError, match=f"--embedding-scale {norms.mean():.6g}, the mean"):
        caption_space(Root(str(root)), CaptionOptions(model="mine", embeddings=other), UNUSED)


@pytest.mark.usefixtures("prefect_api")
def test_the_same_training_is_found_again_and_other_embeddings_make_another(tmp_path: Path) -> None:
    image_NC = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
    folder = lay_set(f"{tmp_path}/set", "0", image_NC, {"caption": ["a dog"] * 8})
    first = train(tmp_path / "root", folder, encoder="ViT-B-32/openai").facts["model"]
    before = snapshot(tmp_path / "root")
    assert train(tmp_path / "root", folder, encoder="ViT-B-32/openai").facts["model"] == first
    assert snapshot(tmp_path / "root") == before
    lay_set(folder, "0", image_NC[::-1], {"caption": ["a dog"] * 8})
    assert train(tmp_path / "root", folder).facts["model"] != first


def test_a_recipe_that_goes_on_from_a_model_refuses_what_that_does_not_read(tmp_path: Path) -> None:
    folder = lay_set(f"{tmp_path}/set", "0", np.ones((1, 4), np.float32), {"caption": ["x"]})
    wide = lay_set(f"{tmp_path}/wide", "0", np.ones((1, 256), np.float32), {"caption": ["x"]})
    root = Root(f"{tmp_path}/root")
    for given, encoder, message in [
        (folder, "", "width"),
        (wide, "", "nano-scratch"),
        (wide, "ViT-B-32", "reads 'nano'"),
    ]:
        options = TrainOptions(recipe="nano", embeddings=given, encoder=encoder)
        with pytest.raises((ConfigurationError, ModelError), match=message):
            training_space(root, options, UNUSED)
    assert not (tmp_path / "root").exists()
