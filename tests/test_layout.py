"""Names under a root, and the refusal of a root that holds something else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.commit import create
from storage.errors import ConfigurationError
from storage.layout import PARTS, Root, ShardName, open_root, plain_name, safe_name
from storage.urls import join, listing


def test_a_new_root_and_one_of_ours_are_opened(root_url: str) -> None:
    root = open_root(root_url)
    assert root.batches() == []
    for part in PARTS:
        create(join(root.url, part, "0001", "x.json"), b"{}")
    create(join(root.url, "shards", "0000", "plan.json"), b"{}")
    create(join(root.url, ".nightcap.lock"), b"")
    assert open_root(root_url) == root
    assert root.batches() == ["0000", "0001"]


@pytest.mark.parametrize("stranger", ["thesis.tex", "pictures/a.jpg"])
def test_a_root_that_holds_something_else_is_refused_by_its_name(
    root_url: str, stranger: str
) -> None:
    create(join(root_url, ".nightcap.lock"), b"")
    create(join(root_url, "captions", "run", "x.json"), b"{}")
    create(join(root_url, stranger), b"dear to someone")
    with pytest.raises(
        ConfigurationError, match=f"holds something else .'{Path(stranger).parts[0]}"
    ):
        open_root(root_url)


def test_a_file_is_no_root(root_url: str) -> None:
    create(join(root_url, "file"), b"x")
    with pytest.raises(ConfigurationError, match="holds something else"):
        open_root(join(root_url, "file"))


def test_what_a_killed_writer_left_does_not_lock_its_root(tmp_path: Path) -> None:
    (tmp_path / f".{'0' * 32}.partial").write_bytes(b"half")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    open_root(str(tmp_path))


def test_a_root_is_the_same_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    roots = {
        open_root(url) for url in ("root", "./root/", f"{tmp_path}/root", f"file://{tmp_path}/root")
    }
    assert roots == {Root(str(tmp_path / "root"))}


def test_opening_a_root_writes_nothing(root_url: str) -> None:
    open_root(root_url)
    assert listing(root_url) == {}


def test_a_name_inside_the_root_is_relative_and_comes_back(root_url: str) -> None:
    """A root may be moved: what lies in it names nothing above it."""
    root = open_root(root_url)
    url = join(root.captions("run", "0000"), "00000-ab.parquet")
    assert root.relative(url) == "captions/run/0000/00000-ab.parquet"
    assert root.absolute(root.relative(url)) == url


@pytest.mark.parametrize("url", ["/elsewhere/what?/a.jpg", "s3://other/a.tar"])
def test_a_name_outside_the_root_stays_whole_and_comes_back(url: str) -> None:
    root = Root("/data/root")
    assert root.relative(url) == url
    assert root.absolute(url) == url


def test_a_neighbour_with_the_same_beginning_is_outside() -> None:
    assert Root("/data/root").relative("/data/root2/a.tar") == "/data/root2/a.tar"


def test_a_name_outside_the_root_tells_no_password() -> None:
    assert Root("/data/root").relative("s3://k:hunter2@other/a.tar") == "s3://other/a.tar"


def test_every_part_has_its_folder() -> None:
    root = Root("s3://b/root")
    assert root.shards("0000") == "s3://b/root/shards/0000"
    assert root.embeddings("nano-12345678", "0000") == "s3://b/root/embeddings/nano-12345678/0000"
    assert root.space("nano-12345678") == "s3://b/root/embeddings/nano-12345678"
    assert root.model("m", "12345678") == "s3://b/root/models/m/12345678"
    assert root.model("m") == "s3://b/root/models/m"
    assert root.run("r") == "s3://b/root/captions/r"
    assert root.captions("r", "0000") == "s3://b/root/captions/r/0000"


def test_a_shard_is_named_by_batch_and_stem() -> None:
    name = ShardName("2026-11-21-2", "00017")
    assert str(name) == "2026-11-21-2/00017"
    assert ShardName.parse(str(name)) == name
    assert sorted([ShardName("1", "0"), ShardName("0", "9"), ShardName("0", "1")]) == [
        ShardName("0", "1"),
        ShardName("0", "9"),
        ShardName("1", "0"),
    ]


@pytest.mark.parametrize("name", ["0000", "2026-11-21", "nano-1a2b3c4d", "m@12345678", "a.b_c+d"])
def test_a_plain_name_is_kept(name: str) -> None:
    assert plain_name(name, "run") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", " a", "a b", "-x", ".x", "ä", "a\n", "x" * 129]
)
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^run .* cannot name a folder"):
        plain_name(name, "run")


@given(st.text(max_size=300))
def test_whatever_is_made_safe_is_plain(name: str) -> None:
    assert plain_name(safe_name(name), "encoder")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("ViT-B-32/laion2b_s34b_b79k", "ViT-B-32-laion2b_s34b_b79k"),
        ("../../etc/passwd", "etc-passwd"),
        ("日本", "unnamed"),
    ],
)
def test_a_safe_name_still_tells_what_it_was(name: str, safe: str) -> None:
    assert safe_name(name) == safe
