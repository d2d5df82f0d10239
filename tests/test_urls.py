"""Opening, listing and naming: the same answers from every store, and no trust in old ones."""

import errno
import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import fsspec
import pytest

from storage.commit import create
from storage.errors import ConfigurationError, StorageError, StoreUnavailable
from storage.urls import (
    READERS,
    Stat,
    as_stat,
    filesystem,
    folders,
    is_local,
    join,
    listing,
    open_read,
    read_bytes,
    redact,
    stat,
    translated,
)


def test_a_listing_names_files_in_order_and_no_folders(root_url: str) -> None:
    for name in ("b.json", "a.json", "ä ö.json", "0000/x.json", "10/y/z.json"):
        create(join(root_url, name), name.encode())
    assert list(listing(root_url)) == ["a.json", "b.json", "ä ö.json"]
    assert listing(root_url)["ä ö.json"].size == len("ä ö.json".encode())
    assert folders(root_url) == ["0000", "10"]


def test_what_is_not_there_is_empty_and_no_error(root_url: str) -> None:
    create(join(root_url, "file"), b"x")
    for absent in ("nowhere", "file/below"):
        assert listing(join(root_url, absent)) == {}
        assert folders(join(root_url, absent)) == []
        assert stat(join(root_url, absent)) is None
    with pytest.raises(FileNotFoundError):
        read_bytes(join(root_url, "nowhere"))


def test_a_folder_has_no_stat(root_url: str) -> None:
    create(join(root_url, "folder", "file"), b"x")
    assert stat(join(root_url, "folder")) is None


def test_a_stat_is_what_the_listing_says(root_url: str) -> None:
    create(join(root_url, "file"), b"12345")
    facts = stat(join(root_url, "file"))
    assert facts is not None
    assert facts.size == 5
    assert facts == listing(root_url)["file"]
    assert abs(facts.changed - datetime.now(UTC).timestamp()) < 60


def test_an_open_file_can_be_read_from_anywhere(root_url: str) -> None:
    create(join(root_url, "file"), bytes(range(200)))
    with open_read(join(root_url, "file")) as file:
        file.seek(-3, 2)
        assert file.read() == bytes([197, 198, 199])
        file.seek(10)
        assert file.read(2) == bytes([10, 11])
        assert file.tell() == 12


def test_the_mark_of_an_empty_folder_is_no_file(s3_root: str) -> None:
    """Consoles and other tools put a key that ends in a slash where a folder is made."""
    fs, path = fsspec.url_to_fs(s3_root)
    fs.call_s3("put_object", Bucket=path.split("/")[0], Key="root/", Body=b"")
    fs.call_s3("put_object", Bucket=path.split("/")[0], Key="root/captions/", Body=b"")
    assert listing(s3_root) == {}
    assert folders(s3_root) == ["captions"]
    create(join(s3_root, "captions", "a.json"), b"x")
    assert list(listing(join(s3_root, "captions"))) == ["a.json"]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/pictures",
        "ftp://example.org/pictures",
        "pipe:cat /etc/passwd",
        "pipe://cat",
        "simplecache::s3://bucket/root",
        "zip://a::file:///b.zip",
        "nonsense://x",
        "://x",
    ],
)
def test_a_place_that_cannot_commit_safely_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="give a local path, s3://, gs:// or memory://"):
        filesystem(url)


def test_a_refusal_never_tells_the_password() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        filesystem("ftp://joe:hunter2@example.org/x?token=hunter2")
    assert "hunter2" not in str(refusal.value)


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="gcsfs is installed")
def test_a_missing_client_is_told_with_its_extra() -> None:
    with pytest.raises(ConfigurationError, match=r"pip install 'nightcap\[gcs\]'"):
        filesystem("gs://bucket/root")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/a b/c.tar", "s3://bucket/a b/c.tar"),
        ("https://joe:hunter2@host/x.jpg", "https://host/x.jpg"),
        ("https://joe:hun@ter2@host/x.jpg", "https://host/x.jpg"),
        ("https://host/x.jpg?X-Amz-Signature=abc&y=1", "https://host/x.jpg"),
        ("s3://key:secret@bucket/x?versionId=1", "s3://bucket/x"),
        ("https://host/@joe/x.jpg", "https://host/@joe/x.jpg"),
        ("/data/what?.jpg", "/data/what?.jpg"),
        ("file:///data/what?.jpg", "file:///data/what?.jpg"),
        ("/home/joe@work/x.jpg", "/home/joe@work/x.jpg"),
    ],
)
def test_secrets_leave_a_url_and_nothing_else_does(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("/data", True),
        ("data/../x", True),
        ("file:///data", True),
        ("local:///data", True),
        ("s3://bucket", False),
        ("memory://x", False),
        ("filet://x", False),
    ],
)
def test_a_path_is_told_from_a_store(url: str, local: bool) -> None:
    assert is_local(url) is local


def test_joined_parts_have_one_slash_between_them() -> None:
    assert join("s3://b/root/", "/captions/", "run") == "s3://b/root/captions/run"
    assert join("/data") == "/data"


def test_a_relative_path_and_a_file_url_mean_the_same_file(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    create("here/a.json", b"x")
    assert read_bytes(f"file://{tmp_path}/here/a.json") == b"x"
    assert read_bytes(f"{tmp_path}/here/a.json") == b"x"


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (PermissionError(errno.EACCES, "denied"), ConfigurationError, "no permission to write"),
        (OSError(errno.ENOSPC, "full"), ConfigurationError, "no space left to write"),
        (OSError(errno.EDQUOT, "quota"), ConfigurationError, "no space left to write"),
        (OSError(errno.EROFS, "ro"), ConfigurationError, "the file system is read-only"),
        (OSError(errno.EIO, "bad disk"), StoreUnavailable, "bad disk"),
        (ConnectionResetError("reset"), StoreUnavailable, "reset"),
        (TimeoutError("slow"), StoreUnavailable, "slow"),
        (StoreUnavailable("said already"), StoreUnavailable, "^said already$"),
        (ConfigurationError("said already"), ConfigurationError, "^said already$"),
        (FileNotFoundError("gone"), FileNotFoundError, "gone"),
    ],
)
def test_a_stores_error_is_the_users_to_mend_or_worth_a_retry(
    error: Exception, kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence), translated("s3://bucket/x", "write"):
        raise error


def test_a_translated_error_names_the_file_and_keeps_its_cause() -> None:
    cause = OSError(errno.EIO, "bad disk")
    url = "s3://joe:hunter2@bucket/x"
    with pytest.raises(StorageError, match="'s3://bucket/x'") as caught, translated(url, "read"):
        raise cause
    assert caught.value.__cause__ is cause


class HttpError(Exception):
    """As gcsfs 2026.10's: the reply of a store that was busy, or let nobody in."""

    def __init__(self, reply: dict[str, object]) -> None:
        self.code = reply["code"]
        super().__init__(f"{reply['message']}, {self.code}")


class ChecksumError(Exception):
    """As gcsfs's: bytes that were spoilt on their way."""


class GoogleAuthError(Exception):
    """As google-auth's."""

    retryable = False


class TransportError(GoogleAuthError):
    """As google-auth's: the network failed on the way to a token."""


class RefreshError(GoogleAuthError):
    """As google-auth's."""


class Retryable(RefreshError):
    """One of which google-auth says that it may pass."""

    retryable = True


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules with the classes above, as if Google's client were loaded."""
    names = {
        "gcsfs.retry": (HttpError, ChecksumError),
        "google.auth.exceptions": (GoogleAuthError, TransportError),
    }
    for name, classes in names.items():
        module = ModuleType(name)
        for one in classes:
            setattr(module, one.__name__, one)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("google")
@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (HttpError({"code": 503, "message": "backend"}), StoreUnavailable, "could not read .*503"),
        (HttpError({"code": 429, "message": "slow down"}), StoreUnavailable, "slow down, 429"),
        (HttpError({"code": 401, "message": "who?"}), ConfigurationError, "no permission to read"),
        (ChecksumError("spoilt"), StoreUnavailable, "spoilt"),
        (TransportError("no route"), StoreUnavailable, "no route"),
        (Retryable("busy"), StoreUnavailable, "busy"),
        (RefreshError("invalid_grant"), ConfigurationError, "no permission to read .*grant"),
        (OSError("Forbidden: bucket/x\nno"), ConfigurationError, "no permission to read"),
        (OSError("something else"), StoreUnavailable, "something else"),
    ],
)
def test_what_googles_client_raises_is_told_apart_as_every_stores_is(
    error: Exception, kind: type[Exception], sentence: str
) -> None:
    """A busy store is tried again, and a key that opens nothing is the user's to mend."""
    with pytest.raises(kind, match=sentence), translated("gs://bucket/x", "read"):
        raise error


def test_a_file_of_another_store_that_says_forbidden_is_only_worth_a_retry() -> None:
    with pytest.raises(StoreUnavailable), translated("s3://bucket/x", "read"):
        raise OSError("Forbidden: bucket/x")


def test_a_server_that_cannot_be_reached_is_worth_a_retry(
    s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(StoreUnavailable, match=r"could not read 's3://"):
        read_bytes(join(s3_root, "a.json"))
    fsspec.filesystem("s3").clear_instance_cache()


def test_the_facts_of_every_store_are_read_alike() -> None:
    moment = datetime(2026, 11, 21, tzinfo=UTC)
    seconds = moment.timestamp()
    assert as_stat({"size": 1, "mtime": seconds}) == Stat(1, seconds, "")
    assert as_stat({"size": 1, "LastModified": moment, "ETag": '"ab"'}) == Stat(1, seconds, "ab")
    assert as_stat({"size": None, "created": moment}) == Stat(0, seconds, "")


def test_a_listing_by_prefix_gives_those_names_alone(root_url: str) -> None:
    for name in ("0.json", "00.json", "0.g1.json", "0.parquet", "1.json", "0.x/y.json"):
        create(join(root_url, name), name.encode())
    assert list(listing(root_url, "0.")) == ["0.g1.json", "0.json", "0.parquet"]
    assert listing(root_url, "0.") == {
        name: facts for name, facts in listing(root_url).items() if name.startswith("0.")
    }
    assert listing(root_url, "2") == {}
    assert listing(join(root_url, "nowhere"), "0.") == {}


def test_a_link_is_listed_as_the_file_it_leads_to(tmp_path: Path) -> None:
    """Collections are often folders of links to tars that lie elsewhere."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.tar").write_bytes(b"12345")
    (tmp_path / "a.tar").symlink_to("there/a.tar")
    (tmp_path / "gone.tar").symlink_to("nowhere")
    assert listing(str(tmp_path)) == {"a.tar": stat(str(tmp_path / "a.tar"))}
    assert listing(str(tmp_path))["a.tar"].size == 5


def test_a_users_own_settings_of_the_s3_client_are_kept(
    s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"config_kwargs": {"max_pool_connections": 3, "connect_timeout": 7}}
    monkeypatch.setitem(fsspec.config.conf, "s3", said)
    assert filesystem(s3_root)[0].config_kwargs == said["config_kwargs"]
    monkeypatch.delitem(fsspec.config.conf, "s3")
    assert filesystem(s3_root)[0].config_kwargs == {"max_pool_connections": READERS}
