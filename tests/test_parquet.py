"""Rows go to Parquet and come back the same, or an error says why not."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.commit import replace
from storage.errors import ConfigurationError, SchemaError, ShardError
from storage.fingerprint import sha256_file
from storage.parquet import SMALL, encode, read, read_schema, rows_to_table
from storage.schema import INDEX, ROW_GROUP, embeddings_schema, facts_of, with_facts
from storage.urls import join


def row(number: int, **values: Any) -> dict[str, Any]:
    """An index row of its own number."""
    return {
        "key": f"{number:016x}",
        "path": f"{number}.jpg",
        "url": None,
        "sha256": f"{number * 7919:064x}",
        "n_bytes": number,
        "width": 640,
        "height": 480,
        "format": "JPEG",
        "captions": [f"caption {number}"],
        "status": "ok",
        "error_code": "",
        "error_detail": None,
    } | values


def table(start: int, stop: int) -> pa.Table:
    """Index rows by number."""
    return rows_to_table([row(number) for number in range(start, stop)], INDEX)


def in_pieces(whole: pa.Table, *cuts: int) -> list[pa.Table]:
    """`whole` cut before the rows named."""
    edges = [0, *cuts, whole.num_rows]
    return [whole.slice(a, b - a) for a, b in pairwise(edges)]


def everything(url: str | Path, columns: list[str] | None = None) -> pa.Table:
    """All rows of a file."""
    return pa.concat_tables(read(str(url), columns))


# Writing


def test_every_row_comes_back_in_order_in_groups_of_ten_thousand(tmp_path: Path) -> None:
    """Whatever the sizes of the tables that came in."""
    whole = table(0, 25_000)
    pieces = in_pieces(whole, 1, 2, 2, 9_999, 10_001, 24_999)
    made = encode(iter(pieces), INDEX, tmp_path / "x.parquet")
    assert [group.num_rows for group in read(str(made.path))] == [ROW_GROUP, ROW_GROUP, 5_000]
    assert everything(made.path).equals(whole)
    assert made.rows == 25_000
    assert made.size == made.path.stat().st_size
    assert made.sha256 == sha256_file(made.path)


def test_bytes_do_not_depend_on_how_the_tables_were_cut(tmp_path: Path) -> None:
    whole = table(0, 21_000)
    cuts: list[tuple[int, ...]] = [
        (),
        (1, 12_000),
        (10_000, 20_000),
        tuple(range(512, 21_000, 512)),
    ]
    made = [
        encode(in_pieces(whole, *places), INDEX, tmp_path / f"{number}.parquet")
        for number, places in enumerate(cuts)
    ]
    assert len({file.sha256 for file in made}) == 1


@pytest.mark.parametrize("tables", [[], [INDEX.empty_table()]], ids=["no table", "no row"])
def test_no_rows_make_a_file_with_no_rows(tables: list[pa.Table], tmp_path: Path) -> None:
    made = encode(tables, INDEX, tmp_path / "x.parquet")
    assert made.rows == 0
    assert pq.read_table(made.path).equals(INDEX.empty_table())


def test_files_are_compressed_indexed_and_checksummed(tmp_path: Path) -> None:
    made = encode([table(0, 100)], INDEX, tmp_path / "x.parquet")
    with pq.ParquetFile(made.path) as parquet:
        columns = [
            parquet.metadata.row_group(0).column(n) for n in range(parquet.metadata.num_columns)
        ]
        assert {column.compression for column in columns} == {"ZSTD"}
        assert all(column.has_offset_index and column.has_column_index for column in columns)


def test_facts_of_the_run_stand_in_the_file_and_not_in_its_rows(tmp_path: Path) -> None:
    facts = {"encoder": "nano", "feature": "projected", "note": "ü"}
    made = encode([table(0, 3)], with_facts(INDEX, facts), tmp_path / "x.parquet")
    assert facts_of(read_schema(str(made.path))) == {"schema_version": "1", **facts}
    assert read_schema(str(made.path)).names == INDEX.names


@pytest.mark.parametrize("twin", [[0, 1, 0], [*range(10_001), 5]], ids=["near", "far apart"])
def test_a_key_that_stands_twice_is_refused(twin: list[int], tmp_path: Path) -> None:
    rows = rows_to_table([row(number) for number in twin], INDEX)
    with pytest.raises(SchemaError, match="keys are not unique"):
        encode([rows], INDEX, tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"surplus": 1}, r"columns \['surplus'\] differ"),
        ({"n_bytes": "many"}, "do not fit their schema"),
        ({"n_bytes": 2**70}, "do not fit their schema"),
        ({"width": 2**40}, "do not fit their schema"),
        ({"captions": "one"}, "do not fit their schema"),
        ({"path": b"\xff\xfe"}, "do not fit their schema"),
        ({"path": "\udcff"}, "do not fit their schema"),
    ],
    ids=["surplus", "text for number", "huge", "wide", "text for list", "bytes", "surrogate"],
)
def test_a_row_that_does_not_fit_is_refused(bad: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SchemaError, match=sentence):
        rows_to_table([row(0), row(1, **bad)], INDEX)


def test_a_row_that_lacks_a_column_is_refused_by_its_key() -> None:
    short = row(7)
    del short["captions"]
    with pytest.raises(SchemaError, match=r"row '0+7': columns \['captions'\] differ"):
        rows_to_table([row(0), short], INDEX)


def test_a_table_of_another_schema_is_refused(tmp_path: Path) -> None:
    for other in (table(0, 3).drop_columns("path"), table(0, 3).append_column("x", [[1, 2, 3]])):
        with pytest.raises(SchemaError, match="do not fit their schema"):
            encode([table(3, 6), other], INDEX, tmp_path / "x.parquet")


def test_a_null_where_a_value_must_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="do not fit their schema"):
        encode([rows_to_table([row(0, status=None)], INDEX)], INDEX, tmp_path / "x.parquet")


def test_an_error_among_the_tables_is_not_taken_for_a_misfit(tmp_path: Path) -> None:
    def dies_halfway() -> Iterator[pa.Table]:
        yield table(0, 12_000)
        raise ConfigurationError("the model went away")

    with pytest.raises(ConfigurationError, match=r"^the model went away$"):
        encode(dies_halfway(), INDEX, tmp_path / "x.parquet")


GROWTH = """
    import resource, sys
    import numpy as np, pyarrow as pa
    from pathlib import Path
    from storage.parquet import SMALL, encode, read
    from storage.schema import embeddings_schema
    pa.set_memory_pool(pa.system_memory_pool())
    schema = embeddings_schema(256, "float16")
    def tables(rows):
        random = np.random.default_rng(0)
        for start in range(0, rows, 1_000):
            keys = [f"{n:016x}" for n in range(start, start + 1_000)]
            values = random.standard_normal(256_000, dtype=np.float32).astype(np.float16)
            yield pa.table({
                **{name: pa.nulls(1_000, schema.field(name).type) for name in schema.names},
                "key": keys, "status": ["ok"] * 1_000, "error_code": [""] * 1_000,
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(values), 256),
            }, schema=schema)
    path = Path(sys.argv[2])
    made = encode(tables(int(sys.argv[1])), schema, path)
    assert sum(group.num_rows for group in read(str(path))) == made.rows == int(sys.argv[1])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """150 MB of embeddings against 15 MB; only the keys, 24 bytes each, are held for the check."""
    peaks = []
    for rows in (30_000, 300_000):
        command = [sys.executable, "-c", textwrap.dedent(GROWTH), str(rows), str(tmp_path / "x")]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 100, f"{peaks} MiB"


# Reading


def test_rows_are_read_from_every_store_by_column(root_url: str, tmp_path: Path) -> None:
    made = encode([table(0, 12_000)], INDEX, tmp_path / "x.parquet")
    url = join(root_url, "captions", "x.parquet")
    replace(url, made.path)
    assert everything(url).equals(table(0, 12_000))
    assert everything(url, ["n_bytes"])["n_bytes"].to_pylist() == list(range(12_000))
    assert read_schema(url).equals(INDEX)


def test_a_missing_file_costs_its_shard(root_url: str) -> None:
    with pytest.raises(ShardError, match="is missing"):
        list(read(join(root_url, "x.parquet")))
    with pytest.raises(ShardError, match="is missing"):
        read_schema(join(root_url, "x.parquet"))


def test_embeddings_of_both_widths_come_back_bit_for_bit(tmp_path: Path) -> None:
    for dtype in ("float16", "float32"):
        schema = embeddings_schema(3, dtype)
        rows = [
            dict.fromkeys(schema.names)
            | {
                "key": "a",
                "status": "ok",
                "error_code": "",
                "phash": 2**64 - 1,
                "embedding": [0.1, -2.0, 6e-5],
            },
            dict.fromkeys(schema.names) | {"key": "b", "status": "error", "error_code": "empty"},
        ]
        whole = rows_to_table(rows, schema)
        made = encode([whole], schema, tmp_path / dtype)
        assert everything(made.path).equals(whole)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads by /proc")
def test_reading_starts_no_thread_of_arrows(tmp_path: Path) -> None:
    """One that lets go of Python's bytes while the interpreter ends would abort the process."""
    made = encode([table(0, 90_000)], INDEX, tmp_path / "x.parquet")
    assert made.size > SMALL  # not read whole
    small = encode([table(0, 100)], INDEX, tmp_path / "y.parquet")
    program = f"""
        from pathlib import Path
        from storage.parquet import read, read_batches

        def threads(): return len(list(Path("/proc/self/task").iterdir()))

        before = threads()
        for url in {[str(made.path), str(small.path)]}:
            rows = sum(table.num_rows for table in read(url))
            assert rows == sum(table.num_rows for table in read_batches(url, ["key", "path"]))
        print(rows, threads() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["100", "0"]
