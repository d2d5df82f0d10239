import gzip
import json
import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors import ConfigurationError
from storage.sources import SourceItem, TableOptions, open_source


def lay(url: str, files: dict[str, str | bytes]) -> str:
    """Put `files` below `url`, whatever the store."""
    fs, top = fsspec.url_to_fs(url)
    for name, content in files.items():
        path = f"{top}/{name}"
        fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        fs.pipe_file(path, content.encode() if isinstance(content, str) else content)
    return url


def listed(source: str, **options: str | TableOptions) -> list[SourceItem]:
    return list(open_source(source, **options).items())  # type: ignore[arg-type]


def paths(source: str, **options: str | TableOptions) -> list[str]:
    return [item.path for item in listed(source, **options)]


def captions(source: str, **options: str | TableOptions) -> dict[str, tuple[str, ...]]:
    return {item.path: item.captions for item in listed(source, **options)}


def test_a_folder_lists_its_pictures_by_path_components(root_url: str) -> None:
    names = ["b.png", "a/z.JPG", "a/b/c.webp", "a-b/x.tiff", "a.gif", "é ü/日本.jpeg", "p.v2.Jpg"]
    lay(root_url, dict.fromkeys(names, "x"))
    expected = [
        "a/b/c.webp",
        "a/z.JPG",
        "a-b/x.tiff",
        "a.gif",
        "b.png",
        "p.v2.Jpg",
        "é ü/日本.jpeg",
    ]
    assert paths(root_url) == expected == sorted(names, key=lambda name: name.split("/"))


def test_items_carry_size_stamp_and_an_url_that_others_can_use(root_url: str) -> None:
    lay(root_url, {"a.jpg": "12345"})
    (item,) = listed(root_url)
    assert (item.size, bool(item.stamp)) == (5, True)
    if "://" not in root_url:
        assert item.url is None, "a path of this machine is of no use to others"
    else:
        assert item.url is not None
        assert item.url.endswith("/root/a.jpg")
    assert open_source(root_url).read("a.jpg") == b"12345"


def test_sidecars_are_captions_one_a_line_and_all_else_is_counted(root_url: str) -> None:
    lay(
        root_url,
        {
            "d/a.jpg": "x",
            "d/a.txt": "\ufeffa dog\r\n\n  a   brown dog \n",
            "d/a.caption": "ein Hündchen",
            "d/b.JPG": "x",
            "d/orphan.txt": "of nothing",
            "d/clip.MP4": "x",
            "d/README": "x",
            "d/.hidden.jpg": "x",
            ".cache/c.jpg": "x",
        },
    )
    source = open_source(root_url)
    found = {item.path: item.captions for item in source.items()}
    assert found == {"d/a.jpg": ("a dog", "a brown dog", "ein Hündchen"), "d/b.JPG": ()}
    assert source.counted == {".txt": 1, ".mp4": 1, "without an ending": 1, "hidden": 1}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg"]),
        ("**/*.jpg", ["a.jpg", "x/b.jpg", "x/y/d.jpg", "z/e.jpg"]),
        ("x/*", ["x/b.jpg", "x/c.png"]),
        ("?/[bc].*", ["x/b.jpg", "x/c.png"]),
        ("{x,z}/*.{jpg,png}", ["x/b.jpg", "x/c.png", "z/e.jpg"]),
        ("x/**", ["x/b.jpg", "x/c.png", "x/y/d.jpg"]),
    ],
)
def test_a_glob_means_what_a_shell_would(root_url: str, pattern: str, expected: list[str]) -> None:
    lay(root_url, dict.fromkeys(["a.jpg", "x/b.jpg", "x/c.png", "x/y/d.jpg", "z/e.jpg"], "x"))
    lay(root_url, {"x/b.txt": "beside"})
    source = open_source(f"{root_url}/{pattern}")
    base = source.base.removeprefix(open_source(root_url).base).strip("/")
    found = [f"{base}/{item.path}".lstrip("/") for item in source.items()]
    assert found == expected
    assert captions(f"{root_url}/x/b*.jpg") == {"b.jpg": ("beside",)}


def test_names_full_of_signs_are_only_names(tmp_path: Path) -> None:
    names = ["a[1]/b*?.jpg", "c::d.png", "e%20f.jpg", "{g}.jpg", "h\n.jpg", "~.jpg", "i\\x41.jpg"]
    lay(str(tmp_path / "pics [2020]"), dict.fromkeys(names, "x"))
    source = open_source(str(tmp_path / "pics [2020]"))
    found = [item.path for item in source.items()]
    assert sorted(found) == sorted(names)
    assert {source.read(path) for path in found} == {b"x"}


def test_a_name_that_is_not_utf_8_is_listed_and_read(tmp_path: Path) -> None:
    (tmp_path / "ok.jpg").write_bytes(b"x")
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)  # noqa: PTH102
    Path(os.fsdecode(folder + b"/\xff.jpg")).write_bytes(b"found")
    source = open_source(str(tmp_path))
    assert [item.path for item in source.items()] == ["caf\\xe9/\\xff.jpg", "ok.jpg"]
    assert source.read("caf\\xe9/\\xff.jpg") == b"found"


def test_a_single_picture_is_a_source(tmp_path: Path) -> None:
    lay(str(tmp_path), {"a[1].jpg": "x", "a[1].txt": "one", "b.jpg": "x"})
    assert captions(f"{tmp_path}/a[1].jpg") == {"a[1].jpg": ("one",)}


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    lay(str(tmp_path), {"pics/a/x.jpg": "x", "pics/b/y.jpg": "y", "far/z.jpg": "z"})
    pics = tmp_path / "pics"
    (pics / "a/to_b").symlink_to(pics / "b")
    (pics / "b/to_a").symlink_to(pics / "a")
    (pics / "a/self").symlink_to(pics)
    (pics / "far").symlink_to(tmp_path / "far")
    (pics / "file.jpg").symlink_to(tmp_path / "far/z.jpg")
    (pics / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (pics / "round.jpg").symlink_to(pics / "round.jpg")
    os.mkfifo(pics / "pipe.jpg")
    source = open_source(str(pics))
    items = {item.path: item for item in source.items()}
    expected = "a/to_b/y.jpg a/x.jpg b/to_a/x.jpg b/y.jpg far/z.jpg file.jpg gone.jpg round.jpg"
    assert list(items) == expected.split()
    assert (items["file.jpg"].size, items["gone.jpg"].stamp) == (1, "")
    assert source.counted == {".jpg": 1}, "the pipe"
    for path in ("gone.jpg", "round.jpg", "pipe.jpg"):
        with pytest.raises(FileNotFoundError, match=r"no such file|no regular file"):
            source.read(path)


def test_a_root_inside_the_source_is_left_out(root_url: str) -> None:
    lay(root_url, {"a.jpg": "x", "out/shards/0000/plan.json": "x", "out/b.jpg": "x"})
    assert paths(root_url, exclude=f"{root_url}/out") == ["a.jpg"]
    assert paths(root_url, exclude=f"{root_url}/ou") == ["a.jpg", "out/b.jpg"]


def test_listing_holds_one_folder_not_the_collection(tmp_path: Path) -> None:
    """The second folder is not looked at before the first has been given."""
    lay(str(tmp_path), {"a/1.jpg": "x", "a/2.jpg": "x", "b/3.jpg": "x"})
    items = open_source(str(tmp_path)).items()
    assert next(items).path == "a/1.jpg"
    lay(str(tmp_path), {"b/4.jpg": "x", "a/late.jpg": "x"})
    assert [item.path for item in items] == ["a/2.jpg", "b/3.jpg", "b/4.jpg"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "SOURCE is empty"),
        ("{}/missing", "missing' does not exist"),
        ("{}/none", "holds no pictures \\(2 other files: 1 .doc, 1 .mp4\\)"),
        ("{}/void", "holds no pictures \\(nothing is there\\)"),
        ("{}/void/*.jpg", "holds no pictures"),
        ("{}/none/a.doc", "is no folder, picture or tar, nor a table"),
        ("{}/tars", "holds tars, not pictures: give '.*/tars/deep/\\*.tar'"),
        ("{}/tars/*.tar", "names no tar that exists"),
        ("{}/tars/deep/{{00000..00002}}.tar", "1 of the 3 tars .* the first is '00001.tar'"),
        ("{}/tars/deep/*.tar.gz", "is compressed"),
        ("{}/tars/text.tar", "is not a tar"),
        ("{}/tars/empty.tar", "is empty \\(0 bytes\\)"),
        ("{}/tars/packed.tar", "is compressed \\(gzip\\)"),
        ("ftp://host/x", "cannot use 'ftp://host/x'"),
        ("pipe:cat x.tar", "cannot use"),
        ("simplecache::s3://user:secret@b/x", "cannot use 'simplecache::s3://b/x'"),
    ],
)
def test_a_source_that_cannot_be_one_is_refused_in_a_sentence(
    tmp_path: Path, source: str, message: str
) -> None:
    lay(
        str(tmp_path),
        {
            "none/a.doc": "x",
            "none/b.mp4": "x",
            "tars/deep/00000.tar": b"\0" * 10240,
            "tars/deep/00002.tar": b"\0" * 10240,
        },
    )
    (tmp_path / "void").mkdir()
    if "/tars/" in source and "deep" not in source and "*" not in source:
        content = {"text": b"not a tar" * 100, "empty": b"", "packed": gzip.compress(b"\0" * 10240)}
        lay(f"{tmp_path}/tars", {f"{name}.tar": data for name, data in content.items()})
    with pytest.raises(ConfigurationError, match=message):
        paths(source.format(tmp_path))


def test_tars_are_listed_by_brace_or_glob(root_url: str) -> None:
    names = ["a/00000.tar", "a/00001.tar", "b/00000.tar", "b/00001.parquet", "b/note.txt"]
    lay(root_url, dict.fromkeys(names, b"\0" * 10240))
    for pattern in ("{a,b}/00000.tar", "*/00000.tar", "**/00000.tar"):
        source = open_source(f"{root_url}/{pattern}")
        assert source.kind == "tars"
        items = list(source.items())
        assert [item.path for item in items] == ["a/00000.tar", "b/00000.tar"]
        assert str(items[0].url).endswith("root/a/00000.tar")
        assert items[0].size == 10240
    assert paths(f"{root_url}/a/{{00000..00001}}.tar") == ["00000.tar", "00001.tar"]
    assert paths(f"{root_url}/**/*.tar", exclude=f"{root_url}/a") == ["b/00000.tar"]


FLICKR30K = """image_name| comment_number| comment
36979.jpg| 0| A group of friends .
36979.jpg| 1| A man with a "fake mohawk , standing |
1000092795.jpg| 0| Two young guys with shaggy hair .
1000092795.jpg| 1   A dog runs .
1000092795.jpg| 2| "Two" men .
"""


def test_flickr30k_gives_each_picture_its_captions_in_order(root_url: str) -> None:
    """Its own file has quotes that never close and rows that lack a separator."""
    table = FLICKR30K.replace("standing |", "standing")
    lay(root_url, {"results.csv": table, "36979.jpg": "x", "1000092795.jpg": "y"})
    source = open_source(f"{root_url}/results.csv")
    assert source.kind == "table"
    assert {item.path: item.captions for item in source.items()} == {
        "1000092795.jpg": ("Two young guys with shaggy hair .", '"Two" men .'),
        "36979.jpg": ("A group of friends .", 'A man with a "fake mohawk , standing'),
    }
    assert source.read("36979.jpg") == b"x"


LATE = '{"image":"b.jpg","captions":["other"],"late":3}\n'
MORE = '{"path":"b.jpg","text":"other"}\n{"path":"a.jpg","text":"two"}\n'
PACKED = gzip.compress(b'image,caption\na.jpg,"one, ""1"""\nb.jpg,other\na.jpg,two\n', mtime=0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("captions.txt", 'image,caption\na.jpg,"one, ""1"""\nb.jpg,other\na.jpg,two\n'),
        ("captions.CSV", 'caption;file_name;n\n"one, ""1""";a.jpg;0\nother;b.jpg;\ntwo;./a.jpg\n'),
        ("t.tsv", 'filepath\ttitle\na.jpg\tone, "1"\nb.jpg\tother\na.jpg\ttwo\n'),
        ("q.tsv", 'filepath\ttitle\r\na.jpg\t"one, ""1"""\r\nb.jpg\tother\r\na.jpg\ttwo\r\n'),
        ("Flickr8k.token.txt", 'a.jpg#0\tone, "1"\nb.jpg#0\tother\na.jpg#1\ttwo\n'),
        ("wide.csv", 'path,caption_1,caption_2\na.jpg,"one, ""1""",two\nb.jpg,other,\n'),
        ("m.jsonl", '{"image":"a.jpg","captions":["one, \\"1\\"","two"]}\n' + LATE),
        ("n.ndjson", '{"text":"one, \\"1\\"","id":1,"path":"a.jpg"}\n\n' + MORE),
        ("z.csv.gz", PACKED),
        ("lines.csv", '\r\nimage,caption\r\na.jpg,"one, ""1"""\nb.jpg,other\n\na.jpg,"\r\ntwo\n"'),
        ("bom.csv", '\ufeffimage,caption\na.jpg,"one, ""1"""\nb.jpg,other\na.jpg,two'),
    ],
)  # fmt: skip
def test_tables_of_every_kind_say_the_same(tmp_path: Path, name: str, content: str | bytes) -> None:
    lay(str(tmp_path), {name: content, "a.jpg": "x", "b.jpg": "x"})
    expected = {"a.jpg": ('one, "1"', "two"), "b.jpg": ("other",)}
    assert captions(f"{tmp_path}/{name}") == expected


def test_a_parquet_table_may_hold_lists_of_captions(root_url: str, tmp_path: Path) -> None:
    table = pa.table(
        {
            "Image": ["b/2.jpg", "b/1.jpg", "missing.jpg"],
            "captions": [["x", " ", "y"], None, ["z"]],
            "url": ["http://u:p@h/2?sig=1", None, None],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    lay(root_url, {"t.parquet": (tmp_path / "t.parquet").read_bytes(), "b/1.jpg": "1"})
    lay(root_url, {"b/2.jpg": "22"})
    items = listed(f"{root_url}/t.parquet")
    assert [(item.path, item.size, item.captions) for item in items] == [
        ("b/1.jpg", 1, ()),
        ("b/2.jpg", 2, ("x", "y")),
        ("missing.jpg", 0, ("z",)),
    ]
    assert items[1].url == "http://h/2", "secrets of an address stay out of rows"


def test_columns_and_folder_of_a_table_can_be_given(tmp_path: Path) -> None:
    lay(
        str(tmp_path),
        {"t.csv": "id,wo,bild\n1,eins,x/a\n2,zwei,b\n", "pics/x/a": "x", "pics/b": "y"},
    )
    options = TableOptions(
        images=str(tmp_path / "pics"), path_column="BILD", caption_columns=("wo", "id")
    )
    assert captions(f"{tmp_path}/t.csv", table=options) == {
        "b": ("zwei", "2"),
        "x/a": ("eins", "1"),
    }


def test_absolute_paths_count_if_they_lie_below_the_pictures(tmp_path: Path) -> None:
    outside = tmp_path / "secret.jpg"
    lay(str(tmp_path), {"pics/a.jpg": "x", "secret.jpg": "s"})
    rows = [f"{tmp_path}/pics/a.jpg", str(outside), "../secret.jpg", "", "pipe\0.jpg"]
    lay(f"{tmp_path}/pics", {"t.csv": "path\n" + "\n".join(f'"{row}"' for row in rows)})
    source = open_source(f"{tmp_path}/pics/t.csv")
    items = {item.path: item.size for item in source.items()}
    assert items == {str(outside): 0, "../secret.jpg": 0, "a.jpg": 1, "pipe\0.jpg": 0}
    assert source.counted == {"rows without a path": 1}
    for path in (str(outside), "../secret.jpg"):
        with pytest.raises(FileNotFoundError, match="leads out"):
            source.read(path)
    with pytest.raises(FileNotFoundError, match="not possible"):
        source.read("pipe\0.jpg")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("image,caption\n", {}, "has no rows that name a picture"),
        (" \n\n", {}, "cannot be read: it has no line that is not blank"),
        ("id,label\n1,cat\n", {}, "no column of paths .* name one of id, label with --path-column"),
        (
            "image,caption\na.jpg,x\n",
            {"path_column": "bild"},
            "no column 'bild': .* image, caption",
        ),
        ("image,caption\na.jpg,x\n", {"caption_columns": ("y",)}, "has no column 'y'"),
        ("image,caption\na.jpg,x\nb.jpg,y, z\n", {}, "cannot be read: line 3 has 3 fields, its"),
        ('image,caption\na.jpg,"open\nb.jpg,y\n', {}, "cannot be read: line 3: unexpected end"),
        ('image,caption\na.jpg,"x"y\n', {}, "cannot be read: line 2: ',' expected"),
        (b"image,caption\na.jpg,caf\xe9\n", {}, "cannot be read: .*utf-8"),
        ("image,caption\nhttp://h/a.jpg,x\n", {}, "img2dataset first"),
        ("image,caption\n/else/a.jpg,x\n", {}, "is not in .*--images"),
        ("image,caption\nno/a.jpg,x\nno/b.jpg,x\n", {}, "none of the 2 pictures .*--images"),
        ("image,caption\na.jpg,x\n", {"images": "nowhere"}, "no folder of pictures at"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_a_sentence(
    tmp_path: Path, content: str | bytes, options: dict[str, str], message: str
) -> None:
    lay(str(tmp_path), {"t.csv": content, "a.jpg": "x"})
    with pytest.raises(ConfigurationError, match=message) as caught:
        paths(f"{tmp_path}/t.csv", table=TableOptions(**options))  # type: ignore[arg-type]
    assert "nightcap-" not in str(caught.value), "no name of scratch is shown"
    assert "\n" not in str(caught.value)


def test_broken_json_lines_are_refused_with_their_line(tmp_path: Path) -> None:
    lay(str(tmp_path), {"t.jsonl": '{"path":"a.jpg"}\nnot json\n', "a.jpg": "x"})
    with pytest.raises(ConfigurationError, match="cannot be read: line 2 is no JSON"):
        paths(f"{tmp_path}/t.jsonl")


def test_a_long_table_keeps_the_order_of_its_rows(tmp_path: Path) -> None:
    """Rows are sorted by picture; within one they must stay as they stood, over many blocks."""
    names = [f"{'a' * (number % 2)}/{number % 3000:04}.jpg" for number in range(60_000)]
    names = [name.lstrip("/").replace("a/2", "a-b/2") for name in names]
    rows = "".join(f"{name},caption {number}\n" for number, name in enumerate(names))
    lay(str(tmp_path), {"t.csv": "image,caption\n" + rows, "0000.jpg": "x"})
    found = captions(f"{tmp_path}/t.csv")
    assert list(found) == sorted(set(names), key=lambda name: name.split("/"))
    for name, texts in found.items():
        number = int(name[-8:-4])
        assert texts == tuple(f"caption {number + 3000 * turn}" for turn in range(20))


def test_two_sources_are_the_same_by_their_facts(tmp_path: Path) -> None:
    lay(str(tmp_path), {"a.jpg": "x", "t.jsonl": json.dumps({"path": "a.jpg"})})
    facts = open_source(str(tmp_path)).facts
    assert open_source(f"{tmp_path}/", exclude=f"{tmp_path}/out").facts == facts
    assert open_source(f"file://{tmp_path}").facts == facts
    assert open_source(f"{tmp_path}/*.jpg").facts != facts
    assert open_source(f"{tmp_path}/t.jsonl").facts != facts
