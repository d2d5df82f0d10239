"""retry-failed: what failed for a passing reason is tried again, counted, and not for ever."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collections_of_pictures import draw_sizes
from tiny_models import tiny_encoder_folder
from typer.testing import CliRunner

from flows.cli import app
from flows.retry import RetryOptions, retry_failed
from proofs.whole_root import make_whole_root
from storage.captions import caption_store, run_settings
from storage.embeddings import embedding_settings, embedding_store
from storage.errors import ConfigurationError
from storage.generations import supersede
from storage.layout import ShardName, open_root
from storage.outputs import Written
from storage.parquet import read_schema, rows_to_table
from storage.reading import run_space
from storage.receipts import Receipt
from storage.retrying import parse_codes
from storage.run_summary import finalise, is_sealed
from storage.schema import CAPTIONS
from storage.sources import open_source
from storage.urls import folders
from storage.verify import verify
from tasks.ingest import IngestOptions
from tasks.options import ComputeOptions, EmbedOptions, LaneOptions
from tasks.outstanding import to_cut, uncaptioned
from tasks.settings.embed import settle_embeddings
from tasks.units.embed import embed_shard
from tasks.units.jobs import EmbedJob, ShardJob
from tasks.units.shard import cut_shard

SHARD = ShardName("0000", "00000")
HERE = LaneOptions(lanes=0)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(make_whole_root(tmp_path, 6))


def fail_first_picture(root: str, code: str) -> tuple[Any, bytes]:
    """What a lane killed by its first picture would have left; the store, and the sound bytes."""
    place = open_root(root)
    (name,) = [one for one in folders(embedding_settings(place).parent) if one.startswith("size")]
    space = embedding_settings(place).read(name)
    assert space
    store = embedding_store(place, space)
    standing = store.receipt(SHARD)
    sound = Path(store.data_url(SHARD)).read_bytes()
    schema = read_schema(store.data_url(SHARD))
    rows = pa.concat_tables(store.read(SHARD)).to_pylist()
    rows[0] |= {"status": "error", "error_code": code, "error_detail": None, "embedding": None}

    def failed(made: Written) -> Receipt:
        return replace(standing, files=made.files, failures=made.failures, generation=1)

    store.publish(SHARD, [rows_to_table(rows, schema)], schema, failed)
    return store, sound


def stale(root: str) -> list[ShardName]:
    place = open_root(root)
    settings = run_settings(place)
    (name,) = [one for one in folders(settings.parent) if one.startswith("size")]
    run = settings.read(name)
    assert run
    space = run_space(place, run)
    assert space
    return uncaptioned(place, run, space).shards


def test_a_mended_picture_has_the_bytes_of_a_first_success(root: str) -> None:
    store, sound = fail_first_picture(root, "worker_killed")
    found = retry_failed(root, RetryOptions(), HERE)
    assert (found["tried"], found["mended"]) == (1, 1)
    receipt = store.receipt(SHARD)
    assert Path(store.data_url(SHARD)).read_bytes() == sound
    assert (receipt.generation, receipt.facts["attempts"]) == (2, 2)
    assert "worker_killed" not in receipt.failures
    assert verify(root).ok


def test_what_fails_again_is_let_be_after_so_many_attempts(root: str) -> None:
    counts = [
        retry_failed(root, RetryOptions(codes=("not_image",)), HERE)["tried"] for _ in range(3)
    ]
    assert counts[0] == counts[1] > 0
    assert counts[2] == 0
    assert stale(root) == [], "nothing came out better, so no caption is made anew"
    assert verify(root).breaches == []


def test_other_codes_are_not_tried(root: str) -> None:
    fail_first_picture(root, "timeout")
    assert retry_failed(root, RetryOptions(codes=("worker_killed",)), HERE)["shards"] == {}
    assert retry_failed(root, RetryOptions(codes=("timeout",)), HERE)["mended"] == 1


LOST = {
    "status": "error",
    "error_detail": None,
    "caption": None,
    "captions": [],
    **dict.fromkeys(("caption_logprob", "n_tokens", "clip_sim", "orig_clip_sim")),
}


@pytest.mark.parametrize(
    "review", [{"caption": "edited"}, {**LOST, "error_code": "rejected"}], ids=["edited", "refused"]
)
def test_a_caption_that_failed_by_itself_is_written_again(
    review: dict[str, Any], root: str
) -> None:
    """What a reviewer decided stays as it is."""
    place = open_root(root)
    (name,) = [one for one in folders(run_settings(place).parent) if one.startswith("size")]
    run = run_settings(place).read(name)
    assert run
    store = caption_store(place, run)
    sound = pa.concat_tables(store.read(SHARD)).to_pylist()
    good = [number for number, row in enumerate(sound) if row["status"] == "ok"]
    rows = [dict(row) for row in sound]
    rows[good[0]] |= LOST | {"error_code": "out_of_memory"}
    rows[good[1]] |= review
    supersede(store, SHARD, lambda _: [rows_to_table(rows, CAPTIONS)])
    finalise(place, run)

    found = retry_failed(root, RetryOptions(run=name), HERE)
    assert found["shards"] == {f"{name}/{SHARD}": {"tried": 1, "left": 0}}
    again = pa.concat_tables(store.read(SHARD)).to_pylist()
    assert again == [sound[n] if n == good[0] else row for n, row in enumerate(rows)]
    assert store.receipt(SHARD).facts["attempts"] == 2
    assert retry_failed(root, RetryOptions(run=name), HERE)["tried"] == 0
    assert verify(root).breaches == []


def test_the_quarantine_says_what_failed_why_and_how_often(root: str) -> None:
    retry_failed(root, RetryOptions(codes=("not_image",)), HERE)
    for name in folders(run_settings(open_root(root)).parent):
        rows = pq.read_table(f"{root}/quarantine/{name}.parquet").to_pylist()
        assert {(row["path"], row["error_code"], row["attempts"]) for row in rows} == {
            ("broken.jpg", "not_image", 2)
        }


def test_a_code_that_nothing_bears_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'slow' is no error code: give some of"):
        parse_codes("timeout,slow")


def test_a_damaged_shard_costs_only_itself(root: str) -> None:
    """The others are tried, the quarantine is written, and the exit code is 1."""
    broken = Path(root, "shards/0000/00003.tar")
    broken.write_bytes(broken.read_bytes()[:1000])
    found = retry_failed(root, RetryOptions(codes=("not_image",)), HERE)
    assert not found["ok"]
    assert {name.partition("/")[2] for name in found["failed_shards"]} == {"0000/00003"}
    assert "00003.tar" in next(iter(found["failed_shards"].values()))
    assert {name.partition("/")[2] for name in found["shards"]} == {"0001/00002"}
    assert len(found["outputs"]) == len(list(run_settings(open_root(root)).kept()))
    done = CliRunner().invoke(app, ["retry-failed", root, "--code", "not_image", "--lanes", "0"])
    assert done.exit_code == 1
    assert "/0000/00003: '" in done.stdout


def test_a_run_is_sealed_again_whatever_befell_its_shards(root: str) -> None:
    place = open_root(root)
    (name,) = [one for one in folders(run_settings(place).parent) if one.startswith("size")]
    run = run_settings(place).read(name)
    assert run
    store = caption_store(place, run)
    rows = pa.concat_tables(store.read(SHARD)).to_pylist()
    good = next(row for row in rows if row["status"] == "ok")
    good |= LOST | {"error_code": "out_of_memory"}
    supersede(store, SHARD, lambda _: [rows_to_table(rows, CAPTIONS)])
    finalise(place, run)
    space = run_space(place, run)
    assert space
    embedded = Path(embedding_store(place, space).data_url(SHARD))
    seen = embedded.stat()
    embedded.write_bytes(bytes(seen.st_size))
    os.utime(embedded, ns=(seen.st_atime_ns, seen.st_mtime_ns))  # nobody sees it but who reads
    found = retry_failed(root, RetryOptions(run=name), HERE)
    assert list(found["failed_shards"]) == [f"{name}/{SHARD}"]
    assert is_sealed(place, run)


def test_a_local_encoder_is_given_by_its_folder_and_known_by_its_content(tmp_path: Path) -> None:
    tower = str(tiny_encoder_folder(tmp_path / "tower"))
    place = open_root(str(tmp_path / "root"))
    draw_sizes(tmp_path / "pictures", 3)
    source = str(tmp_path / "pictures")
    (shard,) = to_cut(place, open_source(source), IngestOptions()).shards
    cut_shard(ShardJob(root=place.url, shard=str(shard), source=source))
    options = EmbedOptions(encoder=tower, compute=ComputeOptions(threads=1))
    space = settle_embeddings(place, options, 0)
    job = EmbedJob(root=place.url, shard=str(shard), space=space.name, encoder=tower)
    embed_shard(replace(job, refused=((0, "timeout"),)))
    for given in ("", "nano", str(tmp_path / "nowhere")):
        with pytest.raises(ConfigurationError, match="--encoder"):
            retry_failed(place.url, RetryOptions(encoder=given), HERE)
    found = retry_failed(place.url, RetryOptions(encoder=tower), HERE)
    assert (found["tried"], found["mended"]) == (1, 1)
