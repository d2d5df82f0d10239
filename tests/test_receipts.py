"""A receipt is found out if touched, and bears no trace of where and when it was made."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace as changed
from pathlib import Path

import pytest
from example_receipt import RECEIPT
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import ReceiptError
from storage.fingerprint import fingerprint
from storage.receipts import (
    FileFacts,
    Receipt,
)


def test_every_field_survives_the_round_trip() -> None:
    assert Receipt.from_bytes(RECEIPT.to_bytes()) == RECEIPT


TEXT = st.text(max_size=12)
FILES = st.lists(
    st.builds(FileFacts, url=TEXT, size=st.integers(0), sha256=TEXT, stamp=TEXT), max_size=3
).map(tuple)
FACTS = st.dictionaries(
    TEXT,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | TEXT
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Receipt,
        stage=TEXT,
        shard=TEXT,
        fingerprint=TEXT,
        rows=st.integers(0),
        failures=st.dictionaries(TEXT, st.integers(0), max_size=3),
        files=FILES,
        inputs=FILES,
        facts=FACTS,
        generation=st.integers(0),
    )
)
def test_any_receipt_survives_the_round_trip(receipt: Receipt) -> None:
    again = Receipt.from_bytes(receipt.to_bytes())
    assert again == receipt
    assert again.digest == receipt.digest
    assert again.to_bytes() == receipt.to_bytes()


@pytest.mark.parametrize(
    "difference",
    [
        {"stage": "embed"},
        {"shard": "0000/00018"},
        {"fingerprint": "e" * 64},
        {"rows": 9_999},
        {"failures": {"truncated": 3}},
        {"files": ()},
        {"inputs": RECEIPT.inputs[::-1]},
        {"facts": {}},
        {"generation": 1},
    ],
)
def test_the_digest_covers_every_field(difference: dict[str, object]) -> None:
    assert changed(RECEIPT, **difference).digest != RECEIPT.digest


def test_a_receipt_changed_in_any_one_bit_or_byte_is_found_out() -> None:
    """Passing is allowed only where the change means nothing, as in white space."""
    data = RECEIPT.to_bytes()
    silent = 0
    for place in range(len(data)):
        flips = [data[place] ^ (1 << bit) for bit in range(8)]
        spoilt = [data[:place] + bytes([byte]) + data[place + 1 :] for byte in flips]
        for bad in (*spoilt, data[:place] + data[place + 1 :]):
            try:
                assert Receipt.from_bytes(bad) == RECEIPT
                silent += 1
            except ReceiptError:
                continue
    assert silent < len(data) / 2


def test_a_receipt_cut_anywhere_is_found_out() -> None:
    data = RECEIPT.to_bytes()
    for length in range(len(data) - 1):  # the last byte is a line's end
        with pytest.raises(ReceiptError):
            Receipt.from_bytes(data[:length])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "7",
        '"receipt"',
        "\0" * 600,
        "[" * 100_000,
        '{"digest": 1}',
        "\ufeff{}",
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_receipt_is_told_in_one_sentence(text: str) -> None:
    with pytest.raises(ReceiptError, match=r"'x\.json'"):
        Receipt.from_bytes(text.encode(), "x.json")


def test_a_receipt_of_another_format_is_not_believed() -> None:
    body = json.loads(RECEIPT.to_bytes())
    del body["digest"]
    body["format"] = 2
    body["digest"] = fingerprint(body)
    with pytest.raises(ReceiptError, match="another version"):
        Receipt.from_bytes(json.dumps(body).encode())


def test_a_receipt_with_a_field_too_many_is_not_believed() -> None:
    body = json.loads(RECEIPT.to_bytes())
    del body["digest"]
    body["hostname"] = "here"
    body["digest"] = fingerprint(body)
    with pytest.raises(ReceiptError):
        Receipt.from_bytes(json.dumps(body).encode())


BYTES_OF_THE_SAME_WORK = """
    import hashlib
    from pathlib import Path
    import pyarrow as pa
    from storage.commit import scratch
    from storage.parquet import encode, rows_to_table
    from storage.receipts import FileFacts, Receipt
    from storage.schema import INDEX, with_facts

    rows = [dict.fromkeys(INDEX.names) | {
        "key": f"{i:016x}", "captions": ["a", "b"], "status": "ok", "error_code": ""
    } for i in range(12_000)]
    with scratch() as place:
        facts = dict.fromkeys({"a", "b", "c", "d", "e"}, "x")
        made = encode([rows_to_table(rows, INDEX)], with_facts(INDEX, facts), place / "x.parquet")
    counts = {code: len(code) for code in {"truncated", "empty", "corrupt", "not_image"}}
    files = (FileFacts(url="x", size=made.size, sha256=made.sha256),)
    receipt = Receipt(stage="s", shard="0/0", fingerprint="f", rows=1, failures=counts, files=files)
    print(hashlib.sha256(receipt.to_bytes()).hexdigest())
"""


def test_bytes_depend_on_no_clock_zone_folder_process_or_hash_seed(tmp_path: Path) -> None:
    digests = set()
    for seed, zone in (("1", "Pacific/Kiritimati"), ("2", "America/Anchorage")):
        (tmp_path / seed).mkdir()
        environment = os.environ | {
            "PYTHONHASHSEED": seed,
            "TZ": zone,
            "TMPDIR": str(tmp_path / seed),
        }
        made = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(BYTES_OF_THE_SAME_WORK)],
            env=environment,
            cwd=tmp_path / seed,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(made.stdout)
    assert len(digests) == 1
