"""What Nightcap writes, the common readers read: the same values in all five."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pytest

from storage.parquet import encode, rows_to_table
from storage.schema import (
    CAPTIONS,
    ERROR_CODES,
    INDEX,
    embeddings_schema,
    facts_of,
    with_facts,
)

STRANGE = 'a "dog", 日本 👩‍👩‍👧\n=cmd()|\' <b>&\u202e'


def candidate(text: str, seed: int | None) -> dict[str, Any]:
    return {"text": text, "logprob": -1.25, "n_tokens": 3, "clip_sim": 0.1, "seed": seed}


def good(number: int, **values: Any) -> dict[str, Any]:
    """A captioned row."""
    return {
        "key": f"{number:016x}",
        "shard": "0000/00000",
        "path": f"pictures/{number}.jpg",
        "url": None,
        "sha256": f"{number:064x}",
        "width": 640,
        "height": 480,
        "format": "JPEG",
        "orig_caption": None,
        "caption": f"caption {number}",
        "caption_logprob": -0.1,
        "n_tokens": 3,
        "clip_sim": 0.3,
        "orig_clip_sim": None,
        "captions": [candidate(f"caption {number}", None), candidate("second", 7)],
        "phash": 2**64 - 1 - number,
        "status": "ok",
        "error_code": "",
        "error_detail": None,
    } | values


def failed(number: int, code: str) -> dict[str, Any]:
    """A failed row: nearly all is null."""
    return dict.fromkeys(CAPTIONS.names) | {
        "key": f"{number:016x}",
        "shard": "0000/00000",
        "captions": [],
        "status": "error",
        "error_code": code,
        "error_detail": ERROR_CODES[code],
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], pa.Table]:
    """Three shards, one of failures alone, one mixed with strange text; and all their rows."""
    folder = tmp_path_factory.mktemp("run")
    shards = [
        [failed(number, code) for number, code in enumerate(ERROR_CODES)],
        [
            good(100),
            failed(101, "empty"),
            good(102, caption=STRANGE, orig_caption=STRANGE, path=STRANGE),
        ],
        [good(number, captions=[candidate(STRANGE, 2**62 + 1)]) for number in range(200, 240)],
    ]
    schema = with_facts(CAPTIONS, {"model": "nano@12345678"})
    tables = [rows_to_table(rows, CAPTIONS) for rows in shards]
    for number, table in enumerate(tables):
        encode([table], schema, folder / f"0000{number}.parquet")
    return sorted(map(str, folder.iterdir())), pa.concat_tables(tables)


def test_pyarrow_reads_every_row(run: tuple[list[str], pa.Table]) -> None:
    paths, rows = run
    assert pyarrow.dataset.dataset(paths).to_table().equals(rows)


def test_duckdb_reads_every_row(run: tuple[list[str], pa.Table]) -> None:
    import duckdb

    paths, rows = run
    with duckdb.connect() as connection:
        read = connection.execute(
            "select * from read_parquet($paths) order by key", {"paths": paths}
        )
        names = [column[0] for column in read.description]
        assert [dict(zip(names, row, strict=True)) for row in read.fetchall()] == rows.to_pylist()


def test_polars_reads_every_row(run: tuple[list[str], pa.Table]) -> None:
    import polars as pl

    paths, rows = run
    assert pl.read_parquet(paths).to_dicts() == rows.to_pylist()
    assert pl.scan_parquet(paths).collect().to_dicts() == rows.to_pylist()


def test_pandas_with_arrow_types_reads_every_row(run: tuple[list[str], pa.Table]) -> None:
    import pandas as pd

    paths, rows = run
    frame = pd.concat(pd.read_parquet(path, dtype_backend="pyarrow") for path in paths)
    assert pa.Table.from_pandas(frame, schema=CAPTIONS, preserve_index=False).equals(rows)


def test_pandas_by_itself_reads_all_but_long_whole_numbers_beside_nulls(
    run: tuple[list[str], pa.Table],
) -> None:
    """Its own types turn a column of whole numbers with a null into floats of 53 bits: `phash`."""
    import pandas as pd

    paths, rows = run
    frame = pd.concat(pd.read_parquet(path).drop(columns="phash") for path in paths[1:])
    kept = CAPTIONS.remove(CAPTIONS.get_field_index("phash"))
    table = pa.Table.from_pandas(frame, schema=kept, preserve_index=False)
    assert table.equals(rows.slice(len(ERROR_CODES)).drop_columns("phash"))


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
def test_datasets_reads_every_row(
    streaming: bool, run: tuple[list[str], pa.Table], tmp_path: Path
) -> None:
    import datasets

    paths, rows = run
    read = datasets.load_dataset(
        "parquet", data_files=paths, split="train", cache_dir=str(tmp_path), streaming=streaming
    )
    assert list(read) == rows.to_pylist()


def test_all_null_columns_keep_their_type(run: tuple[list[str], pa.Table]) -> None:
    """Or the first shard of a run would set types that the second does not have."""
    paths, _ = run
    schemas = [pyarrow.dataset.dataset([path]).schema for path in paths]
    assert all(schema.equals(CAPTIONS) for schema in schemas)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_embeddings_are_read_by_all(dtype: str, tmp_path: Path) -> None:
    import datasets
    import duckdb
    import pandas as pd
    import polars as pl

    schema = embeddings_schema(4, dtype)
    whole = dict.fromkeys(schema.names) | {"status": "ok", "error_code": ""}
    rows = rows_to_table(
        [
            whole | {"key": "a", "embedding": [0.5, -1.0, 0.25, 2.0], "phash": 2**64 - 1},
            whole | {"key": "b", "status": "error", "error_code": "empty"},
            whole | {"key": "c", "embedding": [1.0, 0.0, 0.0, 0.0], "phash": 1},
        ],
        schema,
    )
    path = str(encode([rows], schema, tmp_path / "x.parquet").path)
    values = rows["embedding"].to_pylist()
    assert pl.read_parquet(path)["embedding"].to_list() == values
    with duckdb.connect() as connection:
        read = connection.execute("select embedding from read_parquet($path)", {"path": path})
        assert [row[0] for row in read.fetchall()] == values
    frame = pd.read_parquet(path)
    assert [None if row is None else row.tolist() for row in frame["embedding"]] == values
    loaded = datasets.load_dataset(
        "parquet", data_files=[path], split="train", cache_dir=str(tmp_path / "cache")
    )
    assert list(loaded["embedding"]) == values


# The schemas themselves


@pytest.mark.parametrize("schema", [INDEX, CAPTIONS, embeddings_schema(8, "float16")])
def test_every_row_has_a_key_a_status_and_a_code(schema: pa.Schema) -> None:
    for name in ("key", "status", "error_code"):
        assert schema.field(name) == pa.field(name, pa.string(), nullable=False)


@pytest.mark.parametrize("schema", [INDEX, CAPTIONS, embeddings_schema(8, "float32")])
def test_no_column_is_a_map(schema: pa.Schema) -> None:
    assert "map<" not in str(schema)


def test_columns_stand_as_users_know_them() -> None:
    """A renamed, added or moved column raises SCHEMA_VERSION: change this list with it."""
    assert " ".join(INDEX.names) == (
        "key path url sha256 n_bytes width height format captions status error_code error_detail"
    )
    assert " ".join(embeddings_schema(8, "float32").names) == (
        "key sha256 width height format phash status error_code error_detail embedding"
    )
    assert " ".join(CAPTIONS.names) == (
        "key shard path url sha256 width height format orig_caption caption caption_logprob "
        "n_tokens clip_sim orig_clip_sim captions phash status error_code error_detail"
    )


def test_facts_come_back_and_foreign_metadata_stays_out() -> None:
    schema = with_facts(INDEX, {"b": "2", "a": "ü"})
    assert facts_of(schema) == {"schema_version": "1", "a": "ü", "b": "2"}
    assert facts_of(schema.with_metadata({**schema.metadata, b"pandas": b"{}"})) == facts_of(schema)
    assert facts_of(INDEX) == {}


def test_an_embedding_has_a_known_type() -> None:
    with pytest.raises(KeyError):
        embeddings_schema(8, "int8")
