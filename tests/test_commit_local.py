"""On local disk a file is seen whole or not at all, whoever races, dies or runs out of disk."""

import errno
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.commit import PARTIAL, create, replace, scratch
from storage.errors import ConfigurationError
from storage.urls import join, listing, read_bytes


def python(source: str, *arguments: str) -> subprocess.Popen[str]:
    """Start `source` in a process of its own, with pipes on its output."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What the process printed; fails the test with its traceback if it ended badly."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


# Processes


RACE = """
    import sys, time
    from storage.commit import create
    root, name, rounds, start = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    create(f"{root}/warm-{name}", b"")
    for number in range(rounds):
        time.sleep(max(0.0, start + number * 0.02 - time.time()))
        if create(f"{root}/{number}.json", name.encode() * 1000):
            print(number)
"""


def race_of_processes(root: str, racers: int, rounds: int, start_in: float) -> None:
    """Let `racers` processes create the same files at the same moments; one each may win."""
    start = str(time.time() + start_in)
    running = [python(RACE, root, str(name), str(rounds), start) for name in range(racers)]
    won = {str(name): finish(process).split() for name, process in enumerate(running)}
    for number in range(rounds):
        winners = [name for name, numbers in won.items() if str(number) in numbers]
        assert len(winners) == 1
        assert read_bytes(join(root, f"{number}.json")) == winners[0].encode() * 1000
    assert all(name.startswith("warm-") or name.endswith(".json") for name in listing(root))


def test_of_racing_processes_exactly_one_creates(tmp_path: Path) -> None:
    race_of_processes(str(tmp_path), racers=4, rounds=60, start_in=1.5)


@pytest.mark.slow
def test_of_processes_racing_on_s3_exactly_one_creates(s3_root: str) -> None:
    race_of_processes(s3_root, racers=4, rounds=40, start_in=4)


def test_a_writer_killed_before_the_file_has_its_name_leaves_nothing_visible(
    tmp_path: Path,
) -> None:
    """What is left bears a name by which it is known as litter."""
    for call, function in (("link", "create"), ("replace", "replace")):
        process = python(
            f"""
            import os, signal, sys
            os.{call} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            from storage.commit import {function}
            {function}(sys.argv[1] + "/{call}.json", b"x" * 100)
            """,
            str(tmp_path),
        )
        process.communicate(timeout=60)
        assert process.returncode == -9
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 2
    assert all(PARTIAL.fullmatch(name) for name in left)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "old.parquet").write_bytes(b"old")
    out = finish(
        python(
            """
            import resource, sys
            from pathlib import Path
            from storage.commit import create, replace
            from storage.errors import ConfigurationError
            root = Path(sys.argv[1])
            big = root.parent / "big"
            big.write_bytes(bytes(300_000))
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            for write, name, data in (
                (create, "a.json", bytes(300_000)),
                (replace, "old.parquet", bytes(300_000)),
                (replace, "old.parquet", big),
            ):
                try:
                    write(f"{root}/{name}", data)
                except ConfigurationError as error:
                    print(error)
            """,
            str(tmp_path),
        )
    )
    (tmp_path.parent / "big").unlink()
    lines = out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("no space left to write '/") for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["old.parquet"]
    assert (tmp_path / "old.parquet").read_bytes() == b"old"


# The local file system


class Recorder:
    """Stands before the operating system's own calls and notes their order, by inode."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, int, int]] = []
        for name in ("fsync", "replace", "link"):
            monkeypatch.setattr(os, name, self.noting(name, getattr(os, name)))

    def noting(self, name: str, call: Callable[..., None]) -> Callable[..., None]:
        def noted(subject: int | Path, *rest: Path) -> None:
            facts = os.stat(subject)  # noqa: PTH116 (a descriptor or a path)
            self.events.append((name, facts.st_ino, facts.st_size))
            if rest:
                assert Path(str(subject)).parent == rest[0].parent
            call(subject, *rest)

        return noted


@pytest.mark.parametrize("size", [100, 70_000], ids=["less than a buffer", "more"])
@pytest.mark.parametrize(("write", "place"), [(create, "link"), (replace, "replace")])
def test_bytes_reach_the_disk_before_their_name_and_the_name_before_the_return(
    write: Callable[[str, bytes], object],
    place: str,
    size: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a power cut a name without its bytes would pass for a finished file."""
    recorder = Recorder(monkeypatch)
    write(f"{tmp_path}/a.parquet", b"x" * size)
    file = (tmp_path / "a.parquet").stat().st_ino
    folder = tmp_path.stat().st_ino
    calls = [(name, inode) for name, inode, _ in recorder.events]
    assert calls == [("fsync", file), (place, file), ("fsync", folder)]
    assert recorder.events[0][2] == size, "flushed before all was written"


def test_create_works_where_the_file_system_knows_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert create(f"{tmp_path}/a.json", b"first")
    assert not create(f"{tmp_path}/a.json", b"second")
    assert (tmp_path / "a.json").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("write", [create, replace])
def test_a_file_where_a_folder_should_be_is_told_in_one_sentence(
    write: Callable[[str, bytes], object], tmp_path: Path
) -> None:
    """Not as "the receipt is there already"."""
    (tmp_path / "root").write_bytes(b"a file")
    for below in ("root/a.json", "root/captions/a.json"):
        with pytest.raises(ConfigurationError, match="cannot write '/"):
            write(f"{tmp_path}/{below}", b"x")
    assert (tmp_path / "root").read_bytes() == b"a file"


def test_a_folder_where_a_file_should_be_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(ConfigurationError, match="cannot write '/"):
        replace(f"{tmp_path}/a.json", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_listing_is_whole_while_others_write_beside_it(tmp_path: Path) -> None:
    """A half-written neighbour that vanishes under the lister must not hide the others."""
    create(f"{tmp_path}/fixed.json", b"x")
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            replace(f"{tmp_path}/busy.json", b"y")

    writer = threading.Thread(target=write)
    writer.start()
    seen = [set(listing(str(tmp_path))) for _ in range(300)]
    done.set()
    writer.join()
    assert all("fixed.json" in names for names in seen)


def test_scratch_is_gone_whatever_happened_in_it() -> None:
    def dies() -> None:
        with scratch() as folder:
            places.append(folder)
            (folder / "half").write_bytes(b"x")
            raise ZeroDivisionError

    places: list[Path] = []
    with pytest.raises(ZeroDivisionError):
        dies()
    assert not places[0].exists()
