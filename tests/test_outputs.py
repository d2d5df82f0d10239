"""Outputs of a stage on every store: whole or absent, made again when their inputs change."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from storage import open_captions
from storage.captions import caption_store, run_settings
from storage.commit import remove
from storage.embeddings import embedding_table, embedding_values
from storage.errors import ConfigurationError, SchemaError, ShardError, StorageError
from storage.generations import supersede
from storage.layout import Root, ShardName
from storage.outputs import OutputStore
from storage.parquet import rows_to_table
from storage.receipts import FileFacts
from storage.run_summary import finalise, is_sealed, read_stats, unseal
from storage.schema import CAPTIONS, embeddings_schema
from storage.settled import Settled
from storage.urls import join, listing

SHARD = ShardName("0000", "00000")
INPUT = (FileFacts(url="shards/0000/00000.tar", size=10240, sha256="ab" * 32),)
OTHER = (FileFacts(url="shards/0000/00000.tar", size=20480, sha256="cd" * 32),)


def row(key: str, caption: str | None, **columns: Any) -> dict[str, Any]:
    failed = caption is None
    made = dict.fromkeys(CAPTIONS.names) | {
        "key": key,
        "shard": str(SHARD),
        "path": f"{key}.png",
        "caption": caption,
        "clip_sim": None if failed else 0.5,
        "captions": [],
        "status": "error" if failed else "ok",
        "error_code": "truncated" if failed else "",
    }
    return made | columns


def table(*rows: dict[str, Any]) -> pa.Table:
    return rows_to_table(rows, CAPTIONS)


@pytest.fixture
def root(root_url: str) -> Root:
    return Root(root_url)


@pytest.fixture
def settled(root: Root) -> Settled:
    request = {"model": "size", "dtype": "auto"}
    resolved = {"model": "size", "dtype": "float32"}
    return run_settings(root).settle(request, lambda: resolved, title="model")


@pytest.fixture
def store(root: Root, settled: Settled) -> OutputStore:
    return caption_store(root, settled)


def test_what_was_committed_is_read_back(store: OutputStore) -> None:
    rows = table(row("a", "a dog"), row("b", None))
    receipt = store.commit(SHARD, [rows], CAPTIONS, INPUT)
    assert (receipt.rows, receipt.failures) == (2, {"truncated": 1})
    assert pa.concat_tables(store.read(SHARD)).to_pylist() == rows.to_pylist()


def test_a_failure_on_the_way_leaves_what_stood_before(store: OutputStore) -> None:
    def dies_halfway() -> Iterator[pa.Table]:
        yield table(row("a", "another caption"))
        raise ConnectionError("the worker went away")

    store.commit(SHARD, [table(row("a", "a dog"))], CAPTIONS, INPUT)
    before = listing(store.batch("0000"))
    with pytest.raises(ConnectionError):
        store.commit(SHARD, dies_halfway(), CAPTIONS, OTHER)
    assert listing(store.batch("0000")) == before
    assert [kept["caption"] for kept in next(store.read(SHARD)).to_pylist()] == ["a dog"]


def test_there_is_no_receipt_for_data_that_could_not_be_published(tmp_path: Path) -> None:
    """A receipt that came first would promise rows that nobody can read."""
    rows = [table(row("a", "a dog"))]
    good = OutputStore(Root(str(tmp_path / "a")), str(tmp_path / "a" / "captions"), "caption", "f")
    bad = OutputStore(Root(str(tmp_path / "b")), str(tmp_path / "b" / "captions"), "caption", "f")
    data = good.commit(SHARD, rows, CAPTIONS, INPUT).files[0].url.rpartition("/")[2]
    (tmp_path / "b" / "captions" / "0000" / data / "in the way").mkdir(parents=True)
    with pytest.raises((StorageError, OSError)):
        bad.commit(SHARD, rows, CAPTIONS, INPUT)
    assert not list((tmp_path / "b" / "captions" / "0000").glob("*.json"))


def test_the_same_work_twice_is_one_receipt_and_one_file(store: OutputStore) -> None:
    first = store.commit(SHARD, [table(row("a", "a dog"))], CAPTIONS, INPUT)
    before = listing(store.batch("0000")).keys()
    assert store.commit(SHARD, [table(row("a", "a dog"))], CAPTIONS, INPUT) == first
    assert listing(store.batch("0000")).keys() == before


def test_other_inputs_make_a_new_generation_that_readers_take(store: OutputStore) -> None:
    store.commit(SHARD, [table(row("a", "a dog"))], CAPTIONS, INPUT)
    newer = store.commit(SHARD, [table(row("a", "a cat"))], CAPTIONS, OTHER)
    assert newer.generation == 1
    assert [kept["caption"] for kept in next(store.read(SHARD)).to_pylist()] == ["a cat"]


def test_an_output_of_another_configuration_counts_for_nothing(store: OutputStore) -> None:
    """Where it lies and what it is called do not make it ours: its fingerprint does."""
    store.commit(SHARD, [table(row("a", "a dog"))], CAPTIONS, INPUT)
    other = replace(store, fingerprint="f" * 64)
    assert set(store.receipts("0000")) == {"00000"}
    assert other.receipts("0000") == {}
    with pytest.raises(ShardError, match="no caption output"):
        other.receipt(SHARD)


def test_a_lost_data_file_is_an_error_that_names_it(store: OutputStore) -> None:
    receipt = store.commit(SHARD, [table(row("a", "a dog"))], CAPTIONS, INPUT)
    remove(store.root.absolute(receipt.files[0].url))
    with pytest.raises(ShardError, match="00000-"):
        list(store.read(SHARD))


def test_lost_rows_that_come_out_otherwise_the_second_time_count(store: OutputStore) -> None:
    """An edited generation, or a GPU's other bits: the old receipt must not stand for nothing."""
    store.commit(SHARD, [table(row("a", "a dog"))], CAPTIONS, INPUT)
    edited = supersede(store, SHARD, lambda _: [table(row("a", "a hound"))])
    remove(store.root.absolute(edited.files[0].url))
    again = store.commit(SHARD, [table(row("a", "a dog"))], CAPTIONS, INPUT)
    assert again.generation == 2
    assert captions(store) == ["a dog"]


def test_lost_rows_that_come_out_the_same_are_put_back(store: OutputStore) -> None:
    first = store.commit(SHARD, [table(row("a", "a dog"))], CAPTIONS, INPUT)
    remove(store.root.absolute(first.files[0].url))
    assert store.commit(SHARD, [table(row("a", "a dog"))], CAPTIONS, INPUT) == first
    assert captions(store) == ["a dog"]


def captions(store: OutputStore) -> list[str]:
    return [kept["caption"] for kept in next(store.read(SHARD)).to_pylist()]


def test_sweeping_takes_what_was_superseded_and_keeps_what_counts(store: OutputStore) -> None:
    first = store.commit(SHARD, [table(row("a", "a dog"))], CAPTIONS, INPUT)
    newer = supersede(store, SHARD, lambda _: [table(row("a", "a hound"))])
    store.sweep()
    left = [name for name in listing(store.batch("0000")) if name.endswith(".parquet")]
    assert first.files != newer.files
    assert left == [newer.files[0].url.rpartition("/")[2]]


def test_a_sweep_between_data_and_receipt_loses_nothing(store: OutputStore) -> None:
    """Two commands that write other shards of one run: the first to end sweeps."""

    def facts() -> dict[str, Any]:  # asked for when the data lies there and no receipt names it
        store.sweep()
        return {}

    store.commit(SHARD, [table(row("a", "a dog"))], CAPTIONS, INPUT, facts)
    assert captions(store) == ["a dog"]


def test_many_sweeps_beside_many_writers_lose_nothing(tmp_path: Path) -> None:
    """Whoever looks last, writer or sweeper, puts back what the other took away."""
    folder = str(tmp_path / "captions")
    store = OutputStore(Root(str(tmp_path)), folder, "caption", "f" * 64)
    names = [ShardName("0000", f"{number:05}") for number in range(60)]

    def write(name: ShardName) -> None:
        store.commit(name, [table(row("a", str(name)))], CAPTIONS, INPUT)

    with ThreadPoolExecutor(5) as pool:
        writing = [pool.submit(write, name) for name in names]
        while not all(one.done() for one in writing):
            store.sweep()
        for one in writing:
            one.result()
    assert [next(store.read(name))["caption"].to_pylist() for name in names] == [
        [str(name)] for name in names
    ]


def test_a_row_twice_or_at_odds_with_itself_is_refused(store: OutputStore) -> None:
    with pytest.raises(SchemaError, match="unique"):
        store.commit(SHARD, [table(row("a", "x"), row("a", "y"))], CAPTIONS, INPUT)
    with pytest.raises(SchemaError, match="status"):
        store.commit(SHARD, [table(row("a", "x", error_code="empty"))], CAPTIONS, INPUT)
    assert not listing(store.batch("0000"))


def test_a_sealed_run_is_its_glob_and_sealing_it_again_writes_nothing(
    root: Root, settled: Settled, store: OutputStore
) -> None:
    store.commit(SHARD, [table(row("a", "a dog"))], CAPTIONS, INPUT)
    store.commit(SHARD, [table(row("a", "a cat"), row("b", None))], CAPTIONS, OTHER)
    stats = finalise(root, settled)
    assert (stats["rows"], stats["captioned"], stats["failures"]) == (2, 1, {"truncated": 1})
    assert stats == read_stats(root, settled)
    parquet = [name for name in listing(store.batch("0000")) if name.endswith(".parquet")]
    assert len(parquet) == 1
    before = listing(root.run(settled.name))
    assert {"manifest.json", "stats.json", "README.md", "_SUCCESS", "run.json"} == before.keys()
    finalise(root, settled)
    assert listing(root.run(settled.name)) == before
    unseal(root, settled)
    assert not is_sealed(root, settled)


def test_of_a_picture_captioned_twice_the_newest_row_is_given(
    root: Root, settled: Settled, store: OutputStore
) -> None:
    later = ShardName("0001", "00000")
    store.commit(SHARD, [table(row("a", "old"), row("b", "kept"))], CAPTIONS, INPUT)
    store.commit(later, [table(row("a", "new", shard=str(later)))], CAPTIONS, INPUT)
    newest = open_captions(root.url, settled.name, columns=["caption"]).read_all()
    assert sorted(newest["caption"].to_pylist()) == ["kept", "new"]
    everything = open_captions(root.url, settled.name, history=True).read_all()
    assert sorted(everything["caption"].to_pylist()) == ["kept", "new", "old"]


def test_the_same_request_finds_its_settings_and_resolves_nothing_again(
    root: Root, settled: Settled
) -> None:
    def never() -> dict[str, Any]:
        raise AssertionError("resolved twice")

    again = run_settings(root).settle(dict(settled.request), never, title="model")
    assert again == settled


def test_another_request_gets_another_folder_and_never_a_name_that_is_taken(root: Root) -> None:
    settings = run_settings(root)
    one = settings.settle({"n": 1}, lambda: {"model": "m", "n": 1}, title="model", name="mine")
    other = settings.settle({"n": 2}, lambda: {"model": "m", "n": 2}, title="model")
    assert one.name == "mine"
    assert other.name == f"m-{other.fingerprint[:8]}"
    with pytest.raises(ConfigurationError, match="mine"):
        settings.settle({"n": 3}, lambda: {"model": "m", "n": 3}, title="model", name="mine")


@pytest.mark.parametrize("value", ["float16", "float32"])
def test_embeddings_keep_their_rows_and_leave_failed_ones_empty(value: str) -> None:
    schema = embeddings_schema(3, value)
    blank = dict.fromkeys(name for name in schema.names if name != "embedding")
    fine = blank | {"key": "a", "status": "ok", "error_code": ""}
    failed = blank | {"key": "b", "status": "error", "error_code": "empty"}
    image_NC = np.array([[1, 2, 3], [7, 8, 9]], dtype=np.float32)
    made = embedding_table([fine, failed], image_NC, schema)
    assert made.schema.equals(schema)
    assert made["embedding"].to_pylist() == [[1, 2, 3], None]
    back = embedding_values(made)
    assert back[0].tolist() == [1, 2, 3]
    assert np.isnan(back[1]).all()


def test_an_embedding_that_is_not_finite_is_refused() -> None:
    schema = embeddings_schema(1, "float32")
    blank = dict.fromkeys(name for name in schema.names if name != "embedding")
    fine = blank | {"key": "a", "status": "ok", "error_code": ""}
    with pytest.raises(SchemaError, match="finite"):
        embedding_table([fine], np.array([[np.inf]], dtype=np.float32), schema)


def test_run_files_lie_where_the_layout_says(root: Root, settled: Settled) -> None:
    assert "run.json" in listing(join(root.url, "captions", settled.name))
