import hashlib
import io
import json
import random
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import TarError
from storage.tar_reader import TarReader, TarSample
from storage.tar_writer import TarWriter, member_ending

Members = list[tuple[str, bytes]]
GOOD: Members = [
    ("00000.jpg", b"first"),
    ("00000.json", b'{"url": "u"}'),
    ("00000.txt", b"a dog\na cat\n"),
    ("00001.jpg", b"second" * 200),
    ("00001.txt", b"a tree"),
    ("00002.png", b"third"),
    ("00003.jpg", b"fourth" * 100),
    ("00004.webp", b"fifth"),
]


def packed(members: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def look(data: bytes, **options: str | int) -> tuple[list[TarSample], TarReader]:
    reader = TarReader(io.BytesIO(data), "x.tar", **options)  # type: ignore[arg-type]
    return list(reader), reader


def seen(members: Members) -> list[tuple[str, str, bytes | None]]:
    """Key, problem's code and picture of each sample; every member is accounted for."""
    samples, reader = look(packed(members))
    pictures = sum(sample.size is not None for sample in samples)
    assert pictures + reader.companions + reader.skipped.total() == reader.members == len(members)
    assert len({sample.key for sample in samples}) == len(samples)
    codes = [sample.problem[0] if sample.problem else "" for sample in samples]
    return [(one.key, code, one.image) for one, code in zip(samples, codes, strict=True)]


def skipped(members: Members) -> dict[str, int]:
    return dict(look(packed(members))[1].skipped)


def test_members_are_grouped_as_webdataset_does() -> None:
    samples, reader = look(packed(GOOD))
    assert [(one.key, one.ext, one.image) for one in samples] == [
        ("00000", "jpg", b"first"),
        ("00001", "jpg", b"second" * 200),
        ("00002", "png", b"third"),
        ("00003", "jpg", b"fourth" * 100),
        ("00004", "webp", b"fifth"),
    ]
    assert samples[0].captions == ("a dog", "a cat")
    assert samples[0].facts == {"url": "u"}
    assert (reader.members, reader.companions, reader.skipped) == (8, 3, Counter())
    assert (reader.size, reader.sha256) == (
        len(packed(GOOD)),
        hashlib.sha256(packed(GOOD)).hexdigest(),
    )


def test_a_tar_without_members_is_sound() -> None:
    assert look(packed([]))[0] == []


def test_a_tar_cut_between_members_is_an_error() -> None:
    whole = packed(GOOD)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        starts = [info.offset for info in tar if info.offset]
    for start in starts:
        with pytest.raises(TarError, match=r"cut: no closing blocks"):
            look(whole[:start])
    assert starts


def test_a_tar_cut_inside_a_member_is_an_error() -> None:
    whole = packed(GOOD)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        inside = [info.offset_data + 1 for info in tar]
    for end in inside:
        with pytest.raises(TarError, match=r"ends inside member|is cut|unexpected end"):
            look(whole[:end])


def test_a_tar_without_its_last_block_is_an_error() -> None:
    whole = packed(GOOD).rstrip(b"\0")
    whole += b"\0" * (-len(whole) % 512)
    assert look(whole + b"\0" * 1024)[0]
    for zeros in (0, 1, 512, 1023):
        with pytest.raises(TarError, match="is cut"):
            look(whole + b"\0" * zeros)


def test_a_damaged_header_in_the_middle_is_an_error() -> None:
    damaged = bytearray(packed(GOOD))
    with tarfile.open(fileobj=io.BytesIO(bytes(damaged))) as tar:
        at = tar.getmembers()[3].offset
    damaged[at + 3] ^= 4
    with pytest.raises(TarError, match=f"header at byte {at} is damaged"):
        look(bytes(damaged))


def test_two_tars_in_one_file_are_an_error() -> None:
    with pytest.raises(TarError, match="something follows its end"):
        look(packed(GOOD) + packed(GOOD))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\x1f\x8b" + b"\0" * 600, "is compressed \\(gzip\\)"),
        (b"BZh9" + b"1" * 600, "is compressed \\(bzip2\\)"),
        (b"hello, this is no tar at all" * 40, "is not a tar"),
        (b"short", "is not a tar"),
        (b"\0" * 512, "is cut"),
    ],
)
def test_what_is_no_tar_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(TarError, match=message):
        look(data)


def test_the_hash_of_the_whole_is_checked_last() -> None:
    data = bytearray(packed(GOOD))
    digest = hashlib.sha256(data).hexdigest()
    assert look(bytes(data), sha256=digest)[0]
    data[data.index(b"second")] ^= 1
    with pytest.raises(TarError, match="is not the file that its receipt names"):
        look(bytes(data), sha256=digest)


def test_a_key_that_returns_later_is_a_row_of_its_own() -> None:
    members = [("a.jpg", b"1"), ("b.jpg", b"2"), ("a.jpg", b"3"), ("a.txt", b"x"), ("a.png", b"4")]
    assert seen(members) == [
        ("a", "", b"1"),
        ("b", "", b"2"),
        ("a#2", "duplicate_key", None),
        ("a#3", "duplicate_key", None),
    ]


def test_a_member_that_stands_twice_is_a_row_of_its_own() -> None:
    members = [("a.jpg", b"1"), ("a.jpg", b"2"), ("a.txt", b"x"), ("a.txt", b"y"), ("b.jpg", b"3")]
    assert seen(members) == [("a", "", b"1"), ("a#2", "duplicate_key", None), ("b", "", b"3")]
    assert skipped(members) == {"second member of its name": 1}
    assert look(packed(members))[0][0].captions == ("x",)


def test_two_pictures_under_one_key_are_two_rows() -> None:
    members = [("a.jpg", b"1"), ("a.png", b"2"), ("a.v2.jpg", b"3")]
    assert seen(members) == [
        ("a", "", b"1"),
        ("a#2", "duplicate_key", None),
        ("a#3", "duplicate_key", None),
    ]


def test_keys_that_differ_in_case_alone_collide() -> None:
    assert seen([("A.JPG", b"1"), ("a.jpg", b"2"), ("É.png", b"3"), ("é.png", b"4")]) == [
        ("A", "", b"1"),
        ("a", "duplicate_key", None),
        ("É", "", b"3"),
        ("é", "duplicate_key", None),
    ]
    assert seen([("a.JPG", b"1"), ("a.jpg", b"2")]) == [
        ("a", "", b"1"),
        ("a#2", "duplicate_key", None),
    ]


def test_both_forms_of_an_accent_are_two_keys() -> None:
    assert [code for _, code, _ in seen([("\u00e9.jpg", b"1"), ("e\u0301.jpg", b"2")])] == ["", ""]


def test_a_dotted_name_is_a_picture_by_its_last_ending() -> None:
    assert seen([("photo.v2.jpg", b"1"), ("photo.v2.txt", b"x"), ("d.e/p.q.PNG", b"2")]) == [
        ("photo", "", b"1"),
        ("d.e/p", "", b"2"),
    ]


def test_members_that_can_be_in_no_sample_are_counted() -> None:
    members = [
        ("noending", b"x"),
        ("d/.hidden.jpg", b"x"),
        ("__meta__/a.jpg", b"x"),
        ("a.jpg", b"1"),
        ("a.cls", b"7"),
        ("a.pkl", b"cos\nsystem\n(S'false'\ntR."),
        ("a.json", b"not json"),
        ("b.jpg", b"2"),
        ("b.json", b"[1]"),
    ]
    assert [key for key, _, _ in seen(members)] == ["a", "b"]
    assert skipped(members) == {
        "no ending": 1,
        "hidden": 1,
        "webdataset's own": 1,
        "other ending": 2,
        "unreadable json": 2,
    }


def test_folders_links_and_devices_are_counted() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        kinds = [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
        for number, kind in enumerate(kinds):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    samples, reader = look(buffer.getvalue())
    assert (samples, dict(reader.skipped)) == ([], {"folder": 1, "not a plain file": 3})


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../../etc/p.jpg", "climbs out"),
        ("a/../b.jpg", "climbs out"),
        ("/abs.jpg", "absolute"),
        ("d/" + "x" * 250 + ".jpg", "longer than 255 bytes"),
        ("é" * 130 + ".jpg", "longer than 255 bytes"),
        ("caf\udce9.jpg", "not UTF-8"),
        ("nul\0.jpg", "NUL"),
    ],
)
def test_a_name_that_no_path_may_have_is_refused_as_a_row(name: str, why: str) -> None:
    data = packed([("a.jpg", b"1"), ("name.jpg", b"2"), ("b.jpg", b"3")])
    if "\0" in name:
        odd = tarfile.TarInfo("name.jpg")
        odd.pax_headers = {"path": name}
        odd.size = 1
        data = packed([("a.jpg", b"1")]).rstrip(b"\0")
        data += b"\0" * (-len(data) % 512)
        data += odd.tobuf(tarfile.PAX_FORMAT) + b"2".ljust(512, b"\0")
        data += packed([("b.jpg", b"3")])
    else:
        buffer = io.BytesIO()
        with tarfile.open(
            fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape"
        ) as tar:
            for each, content in [("a.jpg", b"1"), (name, b"2"), (name[:-4] + ".txt", b"x")]:
                info = tarfile.TarInfo(each)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            info = tarfile.TarInfo("b.jpg")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"3"))
        data = buffer.getvalue()
    samples, reader = look(data)
    assert [one.image for one in samples] == [b"1", None, b"3"]
    refused = samples[1]
    assert refused.problem is not None
    assert refused.problem[0] == "metadata_error"
    assert why in refused.problem[1]
    assert (len(refused.key), refused.name) == (16, None)
    assert reader.skipped.total() in (0, 1)


def test_a_key_without_a_picture_is_a_row_that_says_so() -> None:
    assert seen([("a.json", b"{}"), ("a.txt", b"x"), ("b.cls", b"1"), ("c.jpg", b"2")]) == [
        ("a", "missing_member", None),
        ("b", "missing_member", None),
        ("c", "", b"2"),
    ]


def test_long_names_of_every_tar_dialect_are_read() -> None:
    name = "folder/" * 20 + "ü" * 40 + ".jpg"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        (sample,), _ = look(packed([(name, b"1")], form))
        assert (sample.key, sample.name, sample.image) == (name[:-4], name, b"1")


def test_a_picture_beyond_the_limit_is_not_loaded() -> None:
    samples, _ = look(packed([("a.jpg", b"x" * 101), ("b.jpg", b"y" * 100)]), max_bytes=100)
    assert [(one.problem, one.size, one.image) for one in samples] == [
        (("too_large", "101 bytes, more than 100"), 101, None),
        (None, 100, b"y" * 100),
    ]


def test_a_header_that_claims_to_be_huge_asks_for_no_memory() -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    with pytest.raises(TarError, match="claims"):
        look(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 10240)


@pytest.mark.parametrize("size", [-256, -1024])
def test_a_header_that_points_backwards_does_not_loop(size: int) -> None:
    info = tarfile.TarInfo("a.jpg")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size.to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(TarError, match=r"claims|backwards"):
        look(bytes(header) + b"\0" * 10240)


def test_nothing_is_lost_in_silence_over_random_cuts_and_flips() -> None:
    """Every cut or flipped header gives all the samples, or an error; never fewer in silence."""
    rng = random.Random(1)
    members = [
        (f"{number:05}.{kind}", rng.randbytes(rng.randrange(3000)))
        for number in range(30)
        for kind in ("jpg", "cls")
    ]
    whole = packed(members)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        headers = [info.offset for info in tar]
    outcomes: Counter[str] = Counter()
    damaged = [whole[: rng.randrange(len(whole))] for _ in range(100)]
    for _ in range(100):
        data = bytearray(whole)
        data[rng.choice(headers) + rng.randrange(512)] ^= 1 << rng.randrange(8)
        damaged.append(bytes(data))
    for data in damaged:
        try:
            samples, reader = look(data)
        except TarError:
            outcomes["error"] += 1
            continue
        pictures = sum(one.size is not None for one in samples)
        assert pictures + reader.companions + reader.skipped.total() == len(members)
        outcomes["all there"] += 1
    assert outcomes["error"] >= 190


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(NAMES, st.sampled_from(["jpg", "PNG", "txt", "json", ""])), max_size=8))
def test_every_member_is_accounted_for_whatever_its_name(names: list[tuple[str, str]]) -> None:
    members = [(f"{stem}.{last}".rstrip("/") or "x", b"data") for stem, last in names]
    seen(members)


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_webdataset_and_tarfile_read_what_is_written(tmp_path: Path) -> None:
    facts = {"path": "ä/1.jpg", "width": 3}
    with TarWriter(tmp_path / "x.tar") as tar:
        tar.write("00aa", ("jpg", b"one"), facts, ["a dog", "ein Hündchen"])
        tar.write("00bb", ("png", b"two"), {})
    with tarfile.open(tmp_path / "x.tar") as plain:
        infos = plain.getmembers()
        names = ["00aa.jpg", "00aa.json", "00aa.txt", "00bb.json", "00bb.png"]
        assert [info.name for info in infos] == names
        assert {(info.mtime, info.uname, info.uid, info.mode) for info in infos} == {
            (0, "nightcap", 0, 0o644)
        }
    one, two = webdataset.WebDataset(str(tmp_path / "x.tar"), shardshuffle=False)
    assert (one["__key__"], one["jpg"], json.loads(one["json"])) == ("00aa", b"one", facts)
    assert (one["txt"].decode(), two["png"]) == ("a dog\nein Hündchen", b"two")
    ours, _ = look((tmp_path / "x.tar").read_bytes())
    assert ours[0].facts == facts
    assert ours[0].captions == ("a dog", "ein Hündchen")


def test_equal_samples_make_equal_bytes(tmp_path: Path) -> None:
    for name, facts in (("1", {"a": 1, "b": 2}), ("2", {"b": 2, "a": 1})):
        with TarWriter(tmp_path / name) as tar:
            tar.write("k", ("jpg", b"x"), facts, ["c"])
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("a/b.JPEG", "PNG", "jpeg"),
        ("a.b/c", "JPEG", "jpg"),
        ("x.dat", "WEBP", "webp"),
        ("x.dat", "TIFF", "tif"),
        ("x.dat", None, "jpg"),
        ("x.dat", "EPS", "jpg"),
    ],
)
def test_a_members_ending_is_always_a_pictures(path: str, kind: str | None, expected: str) -> None:
    assert member_ending(path, kind) == expected
