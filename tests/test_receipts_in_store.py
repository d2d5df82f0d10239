"""Receipts in a store: first come first kept, the newest counts, and a changed file is noticed."""

import hashlib
import time
from dataclasses import replace as changed
from pathlib import Path

import fsspec
import pytest
from example_receipt import RECEIPT

from storage.commit import create, replace
from storage.errors import CommitConflict, ReceiptError, StoreUnavailable
from storage.receipts import (
    FileFacts,
    Receipt,
    commit_receipt,
    read_receipt,
    receipt_name,
    recorded,
    recorded_all,
    stamp_of,
    unchanged,
)
from storage.urls import join, listing, stat


def test_a_committed_receipt_is_the_record_of_its_shard(root_url: str) -> None:
    assert recorded(root_url, "00017") is None
    assert commit_receipt(root_url, "00017", RECEIPT) == RECEIPT
    found = recorded(root_url, "00017")
    assert found is not None
    assert found.receipt == RECEIPT
    assert found.changed == listing(root_url)["00017.json"].changed


def test_the_highest_generation_is_the_record(root_url: str) -> None:
    generations = [changed(RECEIPT, generation=number) for number in range(12)]
    for receipt in (*generations[2:], *generations[:2]):
        commit_receipt(root_url, "00017", receipt)
    found = recorded(root_url, "00017")
    assert found is not None
    assert found.receipt.generation == 11
    assert list(listing(root_url)) == sorted(receipt_name("00017", n) for n in range(12))


def test_stems_that_look_alike_are_told_apart(root_url: str) -> None:
    stems = ["0", "00", "0.g", "0.g1", "0-1", "a.tar", "0.g0"]
    for rows, stem in enumerate(stems):
        if stem != "0.g1":
            commit_receipt(root_url, stem, changed(RECEIPT, rows=rows))
    commit_receipt(root_url, "0", changed(RECEIPT, rows=100, generation=1))
    create(join(root_url, "0-abc.parquet"), b"no receipt")
    create(join(root_url, "0.g2.json.bak"), b"no receipt")
    found = {stem: record.receipt.rows for stem, record in recorded_all(root_url).items()}
    assert found == {"0": 100, "00": 1, "0.g": 2, "0-1": 4, "a.tar": 5, "0.g0": 6}


@pytest.mark.parametrize("damage", ["torn", "edited", "empty"])
def test_a_damaged_receipt_counts_as_absent_and_is_replaced(root_url: str, damage: str) -> None:
    whole = RECEIPT.to_bytes()
    bad = {"torn": whole[:-40], "edited": whole.replace(b"10000", b"10001"), "empty": b""}[damage]
    assert bad != whole
    create(join(root_url, "00017.json"), bad)
    assert recorded(root_url, "00017") is None
    assert recorded_all(root_url) == {}
    assert commit_receipt(root_url, "00017", RECEIPT) == RECEIPT
    assert read_receipt(join(root_url, "00017.json")) == RECEIPT


def test_a_damaged_generation_uncovers_the_one_before(root_url: str) -> None:
    commit_receipt(root_url, "00017", RECEIPT)
    create(join(root_url, "00017.g1.json"), b"{")
    found = recorded(root_url, "00017")
    assert found is not None
    assert found.receipt == RECEIPT


def test_a_missing_receipt_is_told(root_url: str) -> None:
    with pytest.raises(ReceiptError, match="is missing"):
        read_receipt(join(root_url, "00017.json"))


def test_the_same_commit_twice_is_one_success(root_url: str) -> None:
    for _ in range(2):
        assert commit_receipt(root_url, "00017", RECEIPT) == RECEIPT
    assert list(listing(root_url)) == ["00017.json"]


def test_facts_that_json_writes_alike_are_the_same_commit(
    root_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A tuple comes back as a list: that is no other content."""
    for value in ((1, 2), [1, 2]):
        commit_receipt(root_url, "00017", changed(RECEIPT, facts={"sizes": value}))
    assert caplog.messages == []


def test_a_commit_whose_reply_was_lost_is_a_success(s3_root: str) -> None:
    receipt = changed(RECEIPT, shard="0000/lost-reply")
    assert commit_receipt(s3_root, "lost-reply", receipt) == receipt
    assert read_receipt(join(s3_root, "lost-reply.json")) == receipt


def with_data(content: bytes) -> Receipt:
    digest = hashlib.sha256(content).hexdigest()
    url = f"captions/run/0000/00017-{digest[:16]}.parquet"
    return changed(RECEIPT, files=(FileFacts(url=url, size=len(content), sha256=digest),))


def data_name(receipt: Receipt) -> str:
    return receipt.files[0].url.rsplit("/", 1)[-1]


def test_of_the_same_work_with_other_bits_the_first_stands_and_the_second_goes(
    root_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Two GPUs may differ in the last bit; readers must find one output, not two."""
    first, second = with_data(b"0.1234567"), with_data(b"0.1234568")
    for receipt, content in ((first, b"0.1234567"), (second, b"0.1234568")):
        replace(join(root_url, data_name(receipt)), content)
        assert commit_receipt(root_url, "00017", receipt) == first
    assert sorted(listing(root_url)) == sorted(["00017.json", data_name(first)])
    assert "first" in caplog.text


def test_the_loser_with_the_same_data_removes_nothing(root_url: str) -> None:
    """Its data and the winner's are one file, though their own counts differ."""
    first = with_data(b"same")
    second = changed(first, facts={"seconds": 2})
    replace(join(root_url, data_name(first)), b"same")
    commit_receipt(root_url, "00017", first)
    assert commit_receipt(root_url, "00017", second) == first
    assert data_name(first) in listing(root_url)


@pytest.mark.parametrize(
    "difference",
    [{"fingerprint": "e" * 64}, {"rows": 1}, {"inputs": ()}, {"stage": "embed"}, {"shard": "1/1"}],
    ids=lambda difference: next(iter(difference)),
)
def test_other_work_under_the_same_name_is_a_loud_conflict(
    root_url: str, difference: dict[str, object]
) -> None:
    commit_receipt(root_url, "00017", RECEIPT)
    with pytest.raises(CommitConflict, match="another configuration writing to the same root"):
        commit_receipt(root_url, "00017", changed(RECEIPT, **difference))
    assert read_receipt(join(root_url, "00017.json")) == RECEIPT


# Whether a file is still what its receipt says


def tick(url: str) -> None:
    """Let the store's clock move on: S3 tells whole seconds."""
    time.sleep(1.1 if url.startswith("s3") else 0.02)


def ours(content: bytes) -> FileFacts:
    return FileFacts(url="x", size=len(content), sha256=hashlib.sha256(content).hexdigest())


def test_an_input_byte_changed_after_the_receipt_is_noticed(root_url: str) -> None:
    """Same size, same name: nothing but time and content tell."""
    url = join(root_url, "input.tar")
    replace(url, b"0123456789")
    commit_receipt(root_url, "r", RECEIPT)
    since = recorded(root_url, "r").changed  # type: ignore[union-attr]
    assert unchanged(ours(b"0123456789"), url, since)
    tick(url)
    replace(url, b"0123x56789")
    assert not unchanged(ours(b"0123456789"), url, since)


def test_equal_bytes_written_anew_are_unchanged(root_url: str) -> None:
    url = join(root_url, "input.tar")
    replace(url, b"0123456789")
    since = stat(url).changed  # type: ignore[union-attr]
    tick(url)
    replace(url, b"0123456789")
    assert stat(url).changed > since  # type: ignore[union-attr]
    assert unchanged(ours(b"0123456789"), url, since)


def test_a_file_of_another_size_or_gone_is_changed(root_url: str) -> None:
    url = join(root_url, "input.tar")
    assert not unchanged(ours(b"0123456789"), url, time.time() + 60)
    replace(url, b"012345678")
    assert not unchanged(ours(b"0123456789"), url, time.time() + 60)


def test_a_foreign_file_is_unchanged_while_its_stamp_stands(root_url: str) -> None:
    url = join(root_url, "foreign.tar")
    replace(url, b"0123456789")
    now = stat(url)
    assert now is not None
    facts = changed(ours(b"0123456789"), stamp=stamp_of(now))
    part_read = changed(facts, sha256="")
    assert unchanged(facts, url, since=0)
    assert unchanged(part_read, url, since=0)
    tick(url)
    replace(url, b"0123456789")
    assert unchanged(facts, url, since=time.time() + 60)
    same_etag = bool(now.etag)
    assert unchanged(part_read, url, since=time.time() + 60) is same_etag
    replace(url, b"x123456789")
    assert not unchanged(facts, url, since=time.time() + 60)
    assert not unchanged(part_read, url, since=time.time() + 60)


def test_a_look_already_taken_is_not_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "input.tar"
    path.write_bytes(b"0123456789")
    now = stat(str(path))
    assert now is not None
    path.unlink()
    assert unchanged(ours(b"0123456789"), str(path), since=now.changed, now=now)


# Ten thousand at once


def test_receipts_of_many_shards_come_in_order_and_one_that_is_spoilt_is_told(
    root_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Many are read at a time from an object store: no answer may be taken for another's."""
    count = 150
    for number in range(count):
        receipt = changed(RECEIPT, shard=f"0000/{number:05}", rows=number)
        replace(join(root_url, f"{number:05}.json"), receipt.to_bytes())
    replace(join(root_url, "00070.json"), b"{")
    replace(join(root_url, "00071.g1.json"), b"{")
    found = recorded_all(root_url)
    expected = [number for number in range(count) if number != 70]
    assert list(found) == [f"{number:05}" for number in expected]
    assert [record.receipt.rows for record in found.values()] == expected
    assert all(recorded(root_url, stem) == record for stem, record in list(found.items())[::29])
    told = [message.partition("'")[2].partition("'")[0] for message in caplog.messages]
    assert sorted(told) == [join(root_url, "00070.json"), join(root_url, "00071.g1.json")]


def test_a_receipt_tells_the_file_it_was_read_from(root_url: str) -> None:
    """What comes after names that file, as it lies."""
    spaced = RECEIPT.to_bytes() + b"\n"
    replace(join(root_url, "00017.json"), spaced)
    found = recorded(root_url, "00017")
    assert found is not None
    assert (found.name, found.size) == ("00017.json", len(spaced))
    assert found.sha256 == hashlib.sha256(spaced).hexdigest()


def test_a_receipt_that_cannot_be_read_fails_the_whole_reading(tmp_path: Path) -> None:
    """Not as absent: its work would be done again."""
    for number in range(5):
        commit_receipt(str(tmp_path), f"{number}", RECEIPT)
    (tmp_path / "3.json").unlink()
    (tmp_path / "3.json").symlink_to("/proc/self/mem")  # opens, and reads with EIO
    with pytest.raises(StoreUnavailable, match="could not read"):
        recorded_all(str(tmp_path))


def test_a_store_that_cannot_be_listed_is_worth_a_retry(
    s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_receipt(s3_root, "00017", RECEIPT)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.filesystem("s3").clear_instance_cache()
    for look in (recorded_all, lambda folder: recorded(folder, "00017")):
        with pytest.raises(StoreUnavailable, match="could not list"):
            look(s3_root)
    fsspec.filesystem("s3").clear_instance_cache()


def test_receipts_in_a_store_that_is_far_away_are_read_at_the_same_time(s3_root: str) -> None:
    folder, count = join(s3_root, "far-away"), 60
    for number in range(count):
        replace(join(folder, f"{number}.json"), RECEIPT.to_bytes())
    began = time.perf_counter()
    assert len(recorded_all(folder)) == count
    assert time.perf_counter() - began < 0.1 * count / 2
