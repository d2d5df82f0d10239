"""Every file ends as a picture or as one PictureError: the hostile, the huge and the damaged."""

import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hostile import (
    Hostile,
    encoded,
    hostile_files,
    png_chunk,
    scene,
    webp_canvas,
)
from hostile import png as handmade_png
from PIL import Image, ImageFile

from captioner import pictures
from captioner.errors import PictureError
from captioner.pictures import PictureLimits, decode, inspect, phash


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> list[Hostile]:
    return hostile_files(tmp_path_factory.mktemp("hostile"))


def outcome(data: bytes, read: Callable[[bytes], object] = decode) -> str:
    """Read it: "" if it is a picture, else `code: detail`."""
    try:
        read(data)
    except PictureError as error:
        return str(error)
    return ""


# --- every hostile file ----------------------------------------------------------------------


def test_every_hostile_file_ends_with_its_own_code(zoo: list[Hostile]) -> None:
    ended = {one.path.name: outcome(one.path.read_bytes()).split(":")[0] for one in zoo}
    assert ended == {one.path.name: one.code for one in zoo}


def test_the_zoo_holds_at_least_30_files_and_names_of_every_kind(zoo: list[Hostile]) -> None:
    names = [one.path.name for one in zoo]
    assert len(set(names)) == len(zoo) >= 30
    assert sum(one.code != "" for one in zoo) >= 15
    assert any(len(name) >= 200 for name in names)
    assert any(not name.isascii() for name in names)


def test_a_header_that_passes_says_what_decoding_finds(zoo: list[Hostile]) -> None:
    for one in zoo:
        if one.code == "":
            data = one.path.read_bytes()
            header, picture = inspect(data), decode(data)
            assert (header.width, header.height) == (picture.width, picture.height), one
            assert picture.rgb.size == (picture.width, picture.height), one
            assert header.format == picture.format, one
            assert picture.rgb.mode == "RGB", one


def test_a_header_is_never_blamed_for_more_than_decoding_blames(zoo: list[Hostile]) -> None:
    """A picture refused when shards are cut must be refused, with the same code, by decoding."""
    for one in zoo:
        data = one.path.read_bytes()
        assert outcome(data, inspect).split(":")[0] in {"", one.code}, one


def test_what_is_said_of_a_failure_is_always_the_same_and_gives_nothing_away(
    zoo: list[Hostile],
) -> None:
    for one in zoo:
        data = one.path.read_bytes()
        first, again = outcome(data), outcome(bytes(bytearray(data)))
        assert first == again
        assert not re.search(r"0x[0-9a-f]{6,}|/\w+/|\n", first), first
        assert len(first) < 260


def test_a_file_is_judged_by_its_bytes_and_not_by_who_else_is_decoding(zoo: list[Hostile]) -> None:
    def judged(one: Hostile) -> str:
        data = one.path.read_bytes()
        return outcome(data) or decode(data).rgb.tobytes().hex()

    alone = [judged(one) for one in zoo]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(judged, zoo * 4)) == alone * 4


@pytest.mark.parametrize("name", ["truncated.jpg", "truncated.png", "truncated.gif"])
def test_a_cut_file_is_refused_even_where_pillow_was_told_to_fill_it_with_grey(
    zoo: list[Hostile], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some libraries switch this on for the whole process; the grey half would be captioned."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    (cut,) = (one for one in zoo if one.path.name == name)
    with pytest.raises(PictureError, match="truncated"):
        decode(cut.path.read_bytes())


def test_a_wrong_checksum_is_believed_even_if_the_pixels_would_decode() -> None:
    """A flipped bit inside stored pixels decodes without a word; only the checksum knows."""
    data = bytearray(encoded(scene(), "PNG"))
    data[data.index(b"IEND") - 5] ^= 1  # the last byte of the checksum of IDAT
    assert outcome(bytes(data)) == "corrupt: the checksum of PNG chunk IDAT is wrong"


def test_damage_behind_the_pixels_does_not_cost_the_picture() -> None:
    data = handmade_png(8, 8, bytes(9 * 8))
    end = data.index(b"IEND") - 4
    text = png_chunk(b"tEXt", b"Comment\x00a text")[:-1] + b"?"
    assert outcome(data[:end] + text + data[end:]) == ""


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("cannot identify <_io.BytesIO object at 0x7f3a11>", "cannot identify …"),
        ("bad pointer 0x7fffdeadbeef", "bad pointer …"),
        ("no file /home/me/a/b.jpg here", "no file … here"),
        (r"no file C:\Users\me\b.jpg here", "no file … here"),
        ("two\nlines\x1b[31m", "two lines [31m"),
        ("x" * 400, "x" * 193),
    ],
)
def test_a_librarys_words_are_kept_without_addresses_and_paths(said: str, kept: str) -> None:
    assert pictures._clean(OSError(said)) == f"OSError: {kept}"[:200]


# --- limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [inspect, decode])
def test_a_limit_is_the_last_size_that_passes(read: Callable[..., object]) -> None:
    data = encoded(scene(), "PNG")  # 96x64
    read(data, PictureLimits(max_pixels=96 * 64, max_bytes=len(data), max_aspect=1.5))
    for code, limits in {
        "too_large": PictureLimits(max_pixels=96 * 64 - 1),
        "too_large: ": PictureLimits(max_bytes=len(data) - 1),
        "bad_aspect": PictureLimits(max_aspect=1.49),
    }.items():
        with pytest.raises(PictureError, match=code):
            read(data, limits)


@pytest.mark.parametrize("wrong", [{"max_pixels": 0}, {"max_bytes": 0}, {"max_aspect": 0.5}])
def test_limits_that_let_nothing_through_are_refused(wrong: dict[str, int]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        PictureLimits(**wrong)


def test_a_picture_between_pillows_warning_and_our_limit_is_a_picture() -> None:
    data = handmade_png(10_000, 10_000, bytes(10_000 * 1_251), bits=1)
    assert decode(data).rgb.size == (10_000, 10_000)


SCARCE = """
import resource, sys
from pathlib import Path
from captioner import pictures
from captioner.errors import PictureError
from captioner.pictures import PictureLimits, decode
pages = int(Path("/proc/self/statm").read_text().split()[0])
room = pages * resource.getpagesize() + 150_000_000
resource.setrlimit(resource.RLIMIT_AS, (room, room))
for path in sys.argv[1:]:
    try:
        print(decode(Path(path).read_bytes(), PictureLimits(max_pixels=100_000_000)).rgb.size)
    except PictureError as error:
        print(error.code)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to limit memory")
def test_limits_are_judged_before_memory_is_asked_for_and_too_little_memory_is_said_so(
    tmp_path: Path,
) -> None:
    files = {
        "(100, 100)": handmade_png(100, 100, bytes(100 * 14), bits=1),
        "out_of_memory": handmade_png(9_900, 9_900, bytes(9_900 * 1_239), bits=1),
        "too_large": handmade_png(20_000, 20_000, b"", bits=1),
        "too_large (WebP)": webp_canvas(13_000),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", SCARCE, *(str(tmp_path / name) for name in files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [name.removesuffix(" (WebP)") for name in files]


# --- perceptual hash -------------------------------------------------------------------------


def test_the_hash_is_64_bits_and_near_for_near_duplicates_only() -> None:
    def distance(one: bytes, other: bytes) -> int:
        return (phash(decode(one)) ^ phash(decode(other))).bit_count()

    original = encoded(scene(), "PNG")
    assert 0 <= phash(decode(original)) < 2**64
    assert phash(decode(original)) == phash(decode(original)) != 0
    assert distance(original, encoded(scene(), "JPEG", quality=60)) <= 4
    assert distance(original, encoded(scene().resize((192, 128)), "PNG")) <= 4
    assert distance(original, encoded(scene().transpose(Image.Transpose.ROTATE_90), "PNG")) > 12
