"""Roots on a disk and on an S3 server of this proof's own, and what lies in them."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from storage.commit import PARTIAL, remove
from storage.garbage import garbage, take_away
from storage.layout import open_root
from storage.urls import filesystem, join

SERVER = Path(__file__).parents[1] / "tests" / "s3_server.py"
TIMED = ("report.html", "summary.json")
"""Files that tell how long a run took, and differ with that."""


@contextmanager
def s3_server(*options: str) -> Iterator[None]:
    """An S3 server on loopback, named in the environment while it runs."""
    own = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    before = {name: os.environ.get(name) for name in (*own, "AWS_ENDPOINT_URL")}
    command = [sys.executable, str(SERVER), *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdin  # noqa: S101 - asked for above
        assert server.stdout  # noqa: S101
        port = int(server.stdout.readline())
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # they know an earlier server
        os.environ.update(own, AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
        try:
            yield
        finally:
            server.stdin.close()
            server.wait(timeout=20)
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def new_root(kind: str, scratch: Path) -> str:
    """URL of an empty root; `kind` is `local`, `memory` or `s3`."""
    name = uuid.uuid4().hex
    if kind == "memory":
        return f"memory://{name}/root"
    if kind == "local":
        return str(scratch / name / "root")
    fsspec.filesystem("s3").mkdir(f"proof-{name}")
    return f"s3://proof-{name}/root"


def contents(url: str) -> dict[str, bytes]:
    """Every file below `url` by its name; of those that tell of time the name alone."""
    return {
        name: b"" if name.endswith(TIMED) else data for name, data in whole_contents(url).items()
    }


def whole_contents(url: str) -> dict[str, bytes]:
    """Every file below `url` by its name from there."""
    fs, path = filesystem(url)
    found = {name: fs.cat_file(name) for name in fs.find(path)}
    return {name.removeprefix(path.rstrip("/") + "/"): data for name, data in found.items()}


def litter(url: str, expected: dict[str, bytes]) -> list[str]:
    """Names below `url` that an undisturbed run does not leave."""
    return sorted(set(contents(url)) - set(expected))


def sweep(url: str) -> int:
    """Remove what a killed writer leaves on a disk, known by its name; how many there were."""
    names = [name for name in contents(url) if is_partial(name)]
    for name in names:
        remove(join(url, name))
    return len(names)


def collect(url: str) -> int:
    """Remove what `nightcap gc` finds, however young; how many things there were."""
    root = open_root(url)
    found = garbage(root, 0, time.time())
    take_away(found)
    return len(found)


def identities(url: str) -> dict[str, object]:
    """What tells each file below `url` from an equal one that was put in its place.

    On a disk that is inode and time. On S3 it is the version, once `keep_versions` was called: an
    equal file has the same etag, and often the same time, of which the store tells whole seconds.
    """
    fs, path = filesystem(url)
    if url.startswith("s3://"):
        bucket, _, folder = path.partition("/")
        reply = fs.call_s3("list_object_versions", Bucket=bucket, Prefix=f"{folder}/")
        assert not reply.get("IsTruncated")  # noqa: S101 - a thousand are enough for a proof
        known = [one for one in reply.get("Versions", ()) if one["IsLatest"]]
        return {one["Key"].removeprefix(f"{folder}/"): one["VersionId"] for one in known}
    files = [(Path(name).relative_to(path), Path(name).stat()) for name in fs.find(path)]
    return {name.as_posix(): (file.st_ino, file.st_mtime_ns) for name, file in files}


def keep_versions(url: str) -> None:
    """Let S3 give a version of its own to whatever is written below `url`; a disk needs no such."""
    fs, path = filesystem(url)
    if url.startswith("s3://"):
        enabled = {"Status": "Enabled"}
        bucket = path.partition("/")[0]
        fs.call_s3("put_bucket_versioning", Bucket=bucket, VersioningConfiguration=enabled)


def is_partial(name: str) -> bool:
    """Whether a file has the name that it has on a disk while it is being written."""
    return bool(PARTIAL.fullmatch(name.rsplit("/", 1)[-1]))


def dangling(url: str) -> int:
    """Multipart uploads that were begun and not ended."""
    fs, path = filesystem(url)
    if not url.startswith("s3://"):
        return 0
    reply = fs.call_s3("list_multipart_uploads", Bucket=path.split("/", 1)[0])
    return len(reply.get("Uploads") or [])
