"""What a run writes is read alike by the tools that people read Parquet with."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from collections_of_pictures import draw_sizes
from test_run import run

from storage import open_captions
from storage.captions import caption_store, find_captions
from storage.layout import ShardName, open_root
from storage.schema import CAPTIONS

Rows = list[dict[str, Any]]


def with_pyarrow(pattern: str) -> Rows:
    import pyarrow.dataset as ds

    rows: Rows = ds.dataset(sorted(Path("/").glob(pattern[1:]))).to_table().to_pylist()
    return rows


def with_duckdb(pattern: str) -> Rows:
    import duckdb

    with duckdb.connect() as database:
        table = database.sql(f"select * from read_parquet('{pattern}')").to_arrow_table()
    rows: Rows = table.to_pylist()
    return rows


def with_pandas(pattern: str) -> Rows:
    import pandas as pd

    frames = [
        pd.read_parquet(path, dtype_backend="pyarrow")
        for path in sorted(Path("/").glob(pattern[1:]))
    ]
    import pyarrow as pa

    rows: Rows = pa.Table.from_pandas(pd.concat(frames), preserve_index=False).to_pylist()
    return rows


def with_polars(pattern: str) -> Rows:
    import polars as pl

    return pl.read_parquet(pattern).to_dicts()


def with_datasets(pattern: str, cache: Path) -> Rows:
    import datasets

    found = datasets.load_dataset(
        "parquet", data_files={"train": pattern}, cache_dir=str(cache), split="train"
    )
    return [dict(row) for row in found]


def with_lance(pattern: str, folder: Path) -> Rows:
    """Lance has a format of its own: rows are brought into it and read back."""
    import lance
    import pyarrow.dataset as ds

    files = ds.dataset(sorted(Path("/").glob(pattern[1:])))
    rows: Rows = lance.write_dataset(files, folder / "rows.lance").to_table().to_pylist()
    return rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, prefect_api: None) -> tuple[str, Rows]:
    """A glob of a run's files and its rows as we read them.

    One file has only failures, one a single row, and one none at all.
    """
    home = tmp_path_factory.mktemp("readers")
    draw_sizes(home / "pictures", 5)
    for number in range(5):
        (home / "pictures" / f"zz-{number}.jpg").write_bytes(b"")
    (home / "pictures" / "part-0" / "00000.txt").write_text("een «plaatje» 🖼 'quoted', \"too\"\n")
    draw_sizes(home / "pictures" / "zzz", 1)
    root = open_root(str(home / "root"))
    run(home / "pictures", root.url)
    settled = find_captions(root)
    empty = caption_store(root, settled).commit(ShardName("0000", "zz"), [], CAPTIONS, ())
    assert empty.rows == 0
    rows = open_captions(root.url).read_all().to_pylist()
    by_shard = Counter((row["shard"], row["status"]) for row in rows)
    assert by_shard["0000/00001", "error"] == 5
    assert by_shard["0000/00002", "ok"] == 1
    return f"{home}/root/captions/{settled.name}/*/*.parquet", rows


def in_order(rows: Rows) -> Rows:
    return sorted(rows, key=lambda row: (row["shard"], row["key"]))


@pytest.mark.parametrize("reader", [with_pyarrow, with_duckdb, with_pandas, with_polars])
def test_every_reader_finds_the_same_rows(
    reader: Callable[[str], Rows], finished: tuple[str, Rows]
) -> None:
    pattern, expected = finished
    assert len(expected) == 11
    assert in_order(reader(pattern)) == in_order(expected)


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_datasets_finds_the_same_rows(
    finished: tuple[str, Rows], tmp_path: Path
) -> None:
    pattern, expected = finished
    assert in_order(with_datasets(pattern, tmp_path)) == in_order(expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lance_finds_the_same_rows(finished: tuple[str, Rows], tmp_path: Path) -> None:
    pattern, expected = finished
    assert in_order(with_lance(pattern, tmp_path)) == in_order(expected)
