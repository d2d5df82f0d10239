"""A file is seen whole or not at all, on every store, whoever races or loses a reply."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from storage.commit import create, remove, replace
from storage.errors import ConfigurationError, StorageError, StoreUnavailable
from storage.urls import join, listing, read_bytes

# What holds on every store


def test_create_puts_a_file_only_where_there_is_none(root_url: str) -> None:
    url = join(root_url, "captions", "a.json")
    assert create(url, b"first")
    assert not create(url, b"second")
    assert read_bytes(url) == b"first"


def test_an_empty_file_is_a_file(root_url: str) -> None:
    url = join(root_url, "empty")
    assert create(url, b"")
    assert not create(url, b"something")
    assert read_bytes(url) == b""
    assert listing(root_url)["empty"].size == 0


def test_replace_puts_a_file_whatever_was_there(root_url: str, tmp_path: Path) -> None:
    url = join(root_url, "deep", "er", "a.json")
    replace(url, b"first")
    replace(url, b"second, and longer")
    assert read_bytes(url) == b"second, and longer"
    local = tmp_path / "made.parquet"
    local.write_bytes(os.urandom(3_000_000))
    replace(url, local)
    assert read_bytes(url) == local.read_bytes()
    assert list(listing(join(root_url, "deep", "er"))) == ["a.json"]


def test_a_removed_file_is_gone_and_can_be_removed_again(root_url: str) -> None:
    url = join(root_url, "a.json")
    create(url, b"x")
    remove(url)
    remove(url)
    assert listing(root_url) == {}
    assert create(url, b"again")


def test_a_failed_replace_keeps_what_was_there_and_leaves_nothing_else(
    root_url: str, tmp_path: Path
) -> None:
    url = join(root_url, "a.parquet")
    replace(url, b"good")
    with pytest.raises(StorageError):
        replace(url, tmp_path / "never made")
    assert read_bytes(url) == b"good"
    assert list(listing(root_url)) == ["a.parquet"]


def test_of_racing_threads_exactly_one_creates(root_url: str) -> None:
    """Two winners would be two receipts for one shard."""
    rounds = 8 if root_url.startswith("s3") else 60
    racers = 12
    line = threading.Barrier(racers)

    def race(name: int) -> list[bool]:
        won = []
        for number in range(rounds):
            line.wait(timeout=60)
            won.append(create(join(root_url, f"{number}.json"), str(name).encode()))
        return won

    slice_before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places between any two steps
    try:
        with ThreadPoolExecutor(racers) as pool:
            results = list(pool.map(race, range(racers)))
    finally:
        sys.setswitchinterval(slice_before)
    for number in range(rounds):
        winners = [name for name in range(racers) if results[name][number]]
        assert len(winners) == 1
        assert read_bytes(join(root_url, f"{number}.json")) == str(winners[0]).encode()


def test_a_reader_never_sees_half_of_a_replaced_file(root_url: str, tmp_path: Path) -> None:
    contents = [bytes([letter]) * 400_000 for letter in b"ab"]
    made = tmp_path / "made"
    url = join(root_url, "a.bin")
    replace(url, contents[0])
    done = threading.Event()
    halves = []

    def read() -> None:
        while not done.is_set():
            if (seen := read_bytes(url)) not in contents:
                halves.append(len(seen))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(20):
        made.write_bytes(contents[number % 2])
        replace(url, made if number % 3 else contents[number % 2])
    done.set()
    reader.join()
    assert halves == []


def test_a_listing_shows_what_was_committed_since_the_last_one(root_url: str) -> None:
    """A cached listing would make a finished shard look undone."""
    create(join(root_url, "a.json"), b"x")
    assert list(listing(root_url)) == ["a.json"]
    fs, path = fsspec.url_to_fs(join(root_url, "b.json"), skip_instance_cache=True)
    fs.pipe_file(path, b"by another client")
    assert list(listing(root_url)) == ["a.json", "b.json"]


# S3


def test_a_lost_reply_reads_as_taken_by_the_very_bytes_we_sent(s3_root: str) -> None:
    """The client retries after a 500, meets its own object and is told that it exists."""
    url = join(s3_root, "lost-reply.json")
    assert not create(url, b"ours")
    assert read_bytes(url) == b"ours"


def test_a_conflict_of_two_uploads_may_be_tried_again(s3_root: str) -> None:
    url = join(s3_root, "conflict-409.json")
    with pytest.raises(StoreUnavailable, match=r"could not write 's3://"):
        create(url, b"x")
    assert listing(s3_root) == {}
    assert create(url, b"x")


def test_a_taken_key_is_known_where_the_server_names_no_condition(s3_root: str) -> None:
    url = join(s3_root, "terse.json")
    assert create(url, b"first")
    assert not create(url, b"second")


@pytest.mark.parametrize("write", [create, replace])
def test_a_missing_bucket_is_told_in_one_sentence(
    write: Callable[[str, bytes], object], s3_root: str
) -> None:
    with pytest.raises(
        ConfigurationError, match=r"cannot write 's3://no-such-bucket-here/a\.json'"
    ):
        write("s3://no-such-bucket-here/a.json", b"x")
