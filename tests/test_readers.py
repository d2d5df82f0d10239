"""What a run writes is read alike by the tools that people read Parquet with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from collections_of_pictures import draw_sizes
from test_run import run

from storage import open_captions

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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, prefect_api: None) -> tuple[str, Rows]:
    """A glob of a run's files, one of them of failures only, and its rows as we read them."""
    home = tmp_path_factory.mktemp("readers")
    draw_sizes(home / "pictures", 7)
    for number in range(5):
        (home / "pictures" / f"zz-{number}.jpg").write_bytes(b"")
    (home / "pictures" / "part-0" / "00000.txt").write_text("een «plaatje» 🖼 'quoted', \"too\"\n")
    summary = run(home / "pictures", str(home / "root"))
    rows = open_captions(str(home / "root"), summary.run).read_all().to_pylist()
    return f"{home}/root/captions/{summary.run}/*/*.parquet", rows


def in_order(rows: Rows) -> Rows:
    return sorted(rows, key=lambda row: (row["shard"], row["key"]))


@pytest.mark.parametrize("reader", [with_pyarrow, with_duckdb, with_pandas, with_polars])
def test_every_reader_finds_the_same_rows(
    reader: Callable[[str], Rows], finished: tuple[str, Rows]
) -> None:
    pattern, expected = finished
    assert len(expected) == 12
    assert in_order(reader(pattern)) == in_order(expected)


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_datasets_finds_the_same_rows(
    finished: tuple[str, Rows], tmp_path: Path
) -> None:
    pattern, expected = finished
    assert in_order(with_datasets(pattern, tmp_path)) == in_order(expected)
