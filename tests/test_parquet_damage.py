"""A damaged Parquet file costs its shard; it never gives a wrong row."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from storage.errors import ShardError
from storage.parquet import encode, read
from storage.schema import INDEX


def everything(path: Path) -> pa.Table:
    """All rows of a file."""
    return pa.concat_tables(read(str(path)))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, pa.Table]:
    """A file of two row groups, and its rows."""
    columns = {name: pa.nulls(10_500, INDEX.field(name).type) for name in INDEX.names} | {
        "key": [f"{number:016x}" for number in range(10_500)],
        "sha256": [f"{number * 7919:064x}" for number in range(10_500)],
        "n_bytes": range(10_500),
        "captions": [[f"caption {number}", "x"] for number in range(10_500)],
        "status": ["ok"] * 10_500,
        "error_code": [""] * 10_500,
    }
    rows = pa.table(columns, schema=INDEX)
    place = tmp_path_factory.mktemp("sound") / "x.parquet"
    return encode([rows], INDEX, place).path.read_bytes(), rows


def test_a_bit_flipped_among_the_pages_never_gives_a_wrong_row(
    sound: tuple[bytes, pa.Table], tmp_path: Path
) -> None:
    """Parquet has no checksums unless asked to write and, again, to verify them.

    A flip may fall on a byte that says nothing (a statistic of a page): then the rows are right.
    """
    data, rows = sound
    footer = int.from_bytes(data[-8:-4], "little") + 8
    chance = random.Random(17)
    found = 0
    for _ in range(60):
        place = chance.randrange(4, len(data) - footer)
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << chance.randrange(8)
        (tmp_path / "x.parquet").write_bytes(spoilt)
        try:
            assert everything(tmp_path / "x.parquet").equals(rows)
        except ShardError:
            found += 1
    assert found >= 40


def test_a_bit_flipped_in_the_footer_never_gives_a_wrong_number_of_rows(
    sound: tuple[bytes, pa.Table], tmp_path: Path
) -> None:
    """The footer has no checksum: what it says wrongly without a contradiction, the hash in the
    receipt finds; here it may only fail in our own way, or keep every row."""
    data, rows = sound
    footer = int.from_bytes(data[-8:-4], "little") + 8
    chance = random.Random(18)
    for _ in range(300):
        spoilt = bytearray(data)
        spoilt[len(data) - 1 - chance.randrange(footer)] ^= 1 << chance.randrange(8)
        (tmp_path / "x.parquet").write_bytes(spoilt)
        try:
            assert everything(tmp_path / "x.parquet").num_rows == rows.num_rows
        except ShardError:
            continue


@pytest.mark.parametrize("left", [0, 3, 4, 8, 1_000, -1, -100, -5_000])
def test_a_file_cut_short_costs_its_shard(
    left: int, sound: tuple[bytes, pa.Table], tmp_path: Path
) -> None:
    (tmp_path / "x.parquet").write_bytes(sound[0][:left])
    with pytest.raises(ShardError, match="is not a whole Parquet file"):
        everything(tmp_path / "x.parquet")


def test_a_failure_of_the_reader_is_not_taken_for_damage(
    sound: tuple[bytes, pa.Table], tmp_path: Path
) -> None:
    (tmp_path / "x.parquet").write_bytes(sound[0])
    groups = read(str(tmp_path / "x.parquet"))
    next(groups)
    with pytest.raises(ZeroDivisionError):
        groups.throw(ZeroDivisionError)  # type: ignore[attr-defined]
