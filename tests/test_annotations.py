"""The caption collections that people download, in the very formats in which they are published."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from collections_of_pictures import draw_sizes
from test_sources import captions, lay, listed

from storage.errors import ConfigurationError
from storage.sources import TableOptions, open_source

COCO: dict[str, Any] = {
    "info": {"description": "COCO 2014 Dataset", "year": 2014},
    "licenses": [{"id": 1, "name": "a licence", "url": "http://l"}],
    "images": [
        {
            "license": 5,
            "file_name": "COCO_train2014_000000057870.jpg",
            "coco_url": "http://images.cocodataset.org/train2014/COCO_train2014_000000057870.jpg",
            "height": 480,
            "width": 640,
            "date_captured": "2013-11-14 16:28:13",
            "flickr_url": "http://farm4.staticflickr.com/3153/2970773875_164f0c0b83_z.jpg",
            "id": 57870,
        },
        {"file_name": "COCO_train2014_000000000009.jpg", "id": 9, "height": 480, "width": 640},
        {"file_name": "COCO_train2014_000000000025.jpg", "id": 25, "height": 426, "width": 640},
    ],
    "annotations": [
        {"image_id": 9, "id": 661611, "caption": "A plate of food.\n"},
        {"image_id": 57870, "id": 787980, "caption": " A restaurant  has modern tables."},
        {"image_id": 9, "id": 663627, "caption": ""},
        {"image_id": 9, "id": 661977, "caption": "A bowl of broccoli."},
    ],
}
KARPATHY: dict[str, Any] = {
    "dataset": "coco",
    "images": [
        {
            "filepath": "val2014",
            "sentids": [770337, 771687],
            "filename": "COCO_val2014_000000391895.jpg",
            "imgid": 0,
            "split": "test",
            "sentences": [
                {
                    "tokens": ["a", "man"],
                    "raw": "A man with a red helmet. ",
                    "imgid": 0,
                    "sentid": 770337,
                },
                {"tokens": [], "raw": "  ", "imgid": 0, "sentid": 771687},
            ],
            "cocoid": 391895,
        },
        {
            "filepath": "val2014",
            "filename": "b.jpg",
            "split": "restval",
            "sentences": [{"raw": "A young girl."}, {"raw": "A second."}],
        },
        {"filepath": "train2014", "filename": "c.jpg", "split": "train", "sentences": []},
        {
            "filepath": "val2014",
            "filename": "b.jpg",
            "split": "val",
            "sentences": [{"raw": "+"}],
        },
    ],
}


def laid(url: str, name: str, document: object, *pictures: str) -> str:
    """The document at `url` beside empty files in place of the pictures."""
    text = document if isinstance(document, str) else json.dumps(document)
    lay(url, {name: text, **dict.fromkeys(pictures, "x")})
    return f"{url}/{name}"


def coco(folder: Path, *, named: str = "captions_train2014.json", **parts: Any) -> str:
    names = [image["file_name"] for image in COCO["images"]]
    return laid(str(folder), named, {**COCO, **parts}, *names)


def refusal(source: str, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        listed(source, table=TableOptions(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_coco_captions_go_to_their_pictures_in_the_order_of_the_file(root_url: str) -> None:
    names = [image["file_name"] for image in COCO["images"]]
    source = laid(root_url, "captions_train2014.json", COCO, *names)
    assert captions(source) == {
        "COCO_train2014_000000000009.jpg": ("A plate of food.", "A bowl of broccoli."),
        "COCO_train2014_000000000025.jpg": (),
        "COCO_train2014_000000057870.jpg": ("A restaurant has modern tables.",),
    }
    assert list(captions(source)) == sorted(names)
    urls = {item.path: item.url for item in listed(source)}
    assert urls[names[0]] == COCO["images"][0]["coco_url"]


def test_pictures_lie_where_images_says(tmp_path: Path) -> None:
    source = laid(str(tmp_path / "annotations"), "captions_val2017.json", COCO)
    lay(str(tmp_path / "val2017"), {COCO["images"][1]["file_name"]: "12345"})
    assert "--images" in refusal(source)
    items = listed(source, table=TableOptions(images=str(tmp_path / "val2017")))
    assert [item.size for item in items] == [5, 0, 0], "a picture that is not there is a row too"


def test_two_ids_of_one_file_are_one_picture(tmp_path: Path) -> None:
    images = [*COCO["images"], {"id": "x", "file_name": COCO["images"][1]["file_name"]}]
    said = [{"image_id": "x", "caption": "said of the other id"}, *COCO["annotations"]]
    found = captions(coco(tmp_path, images=images, annotations=said))
    expected = ("A plate of food.", "A bowl of broccoli.", "said of the other id")
    assert found["COCO_train2014_000000000009.jpg"] == expected
    assert len(found) == 3


def test_captions_of_pictures_that_are_not_listed_are_counted(tmp_path: Path) -> None:
    source = open_source(coco(tmp_path, images=COCO["images"][:1]))
    assert len(list(source.items())) == 1
    assert source.counted == {"captions of pictures that are not listed": 3}


def test_a_karpathy_document_gives_the_chosen_splits_or_all(root_url: str) -> None:
    pictures = ["val2014/b.jpg", "train2014/c.jpg", "val2014/COCO_val2014_000000391895.jpg"]
    source = laid(root_url, "dataset_coco.json", KARPATHY, *pictures)

    def of(*splits: str) -> dict[str, tuple[str, ...]]:
        return captions(source, table=TableOptions(splits=splits))

    assert of() == {
        "train2014/c.jpg": (),
        "val2014/COCO_val2014_000000391895.jpg": ("A man with a red helmet.",),
        "val2014/b.jpg": ("A young girl.", "A second.", "+"),
    }
    assert of("train", "restval") == {
        "train2014/c.jpg": (),
        "val2014/b.jpg": ("A young girl.", "A second."),
    }
    assert list(of("test")) == ["val2014/COCO_val2014_000000391895.jpg"]


def test_flickrs_karpathy_files_have_no_folder(tmp_path: Path) -> None:
    image = {"sentids": [0], "imgid": 0, "split": "train", "filename": "1000092795.jpg"}
    image["sentences"] = [{"tokens": ["two"], "raw": "Two young guys.", "imgid": 0, "sentid": 0}]
    document = {"images": [image], "dataset": "flickr30k"}
    source = laid(str(tmp_path), "dataset_flickr30k.json", document, "1000092795.jpg")
    assert captions(source) == {"1000092795.jpg": ("Two young guys.",)}


def test_two_choices_of_splits_are_two_sources(tmp_path: Path) -> None:
    """Or the plan of one would be taken for the other's."""
    source = laid(str(tmp_path), "dataset_coco.json", KARPATHY, "val2014/b.jpg")
    facts = [open_source(source, table=TableOptions(splits=s)).facts for s in [(), ("val",)]]
    assert facts[0] != facts[1]


@pytest.mark.parametrize("name", ["t.csv", "captions.json", "", "*.jpg", "{0..1}.tar"])
def test_splits_are_refused_where_there_are_none(tmp_path: Path, name: str) -> None:
    lay(str(tmp_path), {"t.csv": "image,caption\na.jpg,x\n", "a.jpg": "x"})
    lay(str(tmp_path), dict.fromkeys(["0.tar", "1.tar"], b"\0" * 10240))
    coco(tmp_path, named="captions.json")
    assert "no splits" in refusal(f"{tmp_path}/{name}", splits=("train",))


def test_an_unknown_split_is_answered_with_those_there_are(tmp_path: Path) -> None:
    source = laid(str(tmp_path), "dataset_coco.json", KARPATHY, "val2014/b.jpg")
    said = refusal(source, splits=("train", "dev"))
    assert "no split 'dev': choose --split among restval (1), test (1), train (1), val (1)" in said


IMAGE = {"id": 1, "file_name": "a.jpg"}
PART = {"filename": "a.jpg", "sentences": [{"raw": "x"}], "split": "train"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ('{"images": [', "cannot be read as JSON: Expecting value: line 1 column 13"),
        ("[" * 100_000, "cannot be read as JSON"),
        ([{"image": "a.jpg", "caption": "x"}], "has no list 'images': give COCO"),
        ({"images": {}}, "has no list 'images'"),
        ({"images": [], "annotations": []}, "names no pictures"),
        ({"images": [{"id": 1}], "annotations": []}, "images[0] has no 'file_name'"),
        ({"images": [IMAGE, {"file_name": "b"}], "annotations": []}, "images[1] has no 'id'"),
        ({"images": [{**IMAGE, "id": None}], "annotations": []}, "'id' of images[0] is None"),
        ({"images": [{**IMAGE, "file_name": ""}], "annotations": []}, "'file_name' of images[0]"),
        ({"images": [IMAGE], "annotations": {}}, "'annotations' of it is {}"),
        ({"images": [IMAGE], "annotations": [{"caption": "x"}]}, "[0] has no 'image_id'"),
        ({"images": [IMAGE], "annotations": [{"image_id": 1}]}, "annotations[0] has no 'caption'"),
        ({"images": [IMAGE, {**IMAGE, "file_name": "b"}], "annotations": []}, "the id 1, the se"),
        ({"images": [IMAGE]}, "images[0] has no 'filename'"),
        ({"images": [PART, {**PART, "sentences": "x"}]}, "'sentences' of images[1] is 'x'"),
        ({"images": [{"filename": "a.jpg"}]}, "images[0] has no 'sentences'"),
        ({"images": [{**PART, "sentences": [{}]}]}, "images[0].sentences[0] has no 'raw'"),
        ({"images": [{**PART, "filename": "http://h/a.jpg"}]}, "img2dataset first"),
        ({"images": [{**PART, "filename": "../b.jpg"}]}, "--images"),
    ],
)
def test_a_document_that_cannot_be_used_is_refused_with_the_place(
    tmp_path: Path, document: object, message: str
) -> None:
    source = laid(str(tmp_path), "captions_x.json", document, "a.jpg")
    said = refusal(source)
    assert message in said
    assert "captions_x.json" in said


FLICKR30K = """image_name| comment_number| comment
1000092795.jpg| 0| Two young guys with shaggy hair look at their hands .
1000092795.jpg| 1| Two young , White males are outside near many bushes .
2199200615.jpg| 0| A dog runs across the grass .
2199200615.jpg| 4   A dog runs across the grass .
2199200615.jpg| 3| A large white "poodle| runs
"""


def test_the_short_row_of_flickr30k_costs_one_caption_and_is_counted(tmp_path: Path) -> None:
    """The public file has one row without its second bar; a bar too many is refused elsewhere."""
    table = FLICKR30K.replace("poodle|", "poodle")
    lay(str(tmp_path), {"results.csv": table, "1000092795.jpg": "x", "2199200615.jpg": "x"})
    source = open_source(f"{tmp_path}/results.csv")
    assert {item.path: item.captions for item in source.items()} == {
        "1000092795.jpg": (
            "Two young guys with shaggy hair look at their hands .",
            "Two young , White males are outside near many bushes .",
        ),
        "2199200615.jpg": ("A dog runs across the grass .", 'A large white "poodle runs'),
    }
    assert source.counted == {"rows without a caption": 1}


def test_flickr8k_keeps_commas_and_quotes_of_its_captions(tmp_path: Path) -> None:
    table = (
        "image,caption\n"
        "1000268201_693b08cb0e.jpg,A child in a pink dress is climbing up a set of stairs .\n"
        '1000268201_693b08cb0e.jpg,"A girl , with ""pigtails"" , going in ."\n'
    )
    lay(str(tmp_path), {"captions.txt": table, "1000268201_693b08cb0e.jpg": "x"})
    assert captions(f"{tmp_path}/captions.txt") == {
        "1000268201_693b08cb0e.jpg": (
            "A child in a pink dress is climbing up a set of stairs .",
            'A girl , with "pigtails" , going in .',
        )
    }


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"txt": b"a dog\n"}, ["a dog"]),
        ({"json": b'{"caption": "a dog", "url": "u", "key": "000000000"}'}, ["a dog"]),
        ({"txt": b"other", "json": b'{"caption": " a  dog"}'}, ["a dog"]),
        ({"txt": b"a dog", "json": b'{"caption": null, "status": "success"}'}, ["a dog"]),
        ({"txt": b"a dog", "json": b'{"caption": " "}'}, ["a dog"]),
        ({"json": b'{"caption": ["a dog", "", "a cat"]}'}, ["a dog", "a cat"]),
        ({}, []),
    ],
)
def test_captions_of_a_tar_come_from_json_or_else_from_text(
    tmp_path: Path, members: dict[str, bytes], expected: list[str]
) -> None:
    """CC3M, CC12M and SBU as img2dataset leaves them, with and without its text files."""
    from storage.layout import Root, ShardName
    from storage.plan import ShardOptions, plan_new
    from storage.shards import ShardStore
    from tasks.units.shard import judge

    draw_sizes(tmp_path / "pictures", 1)
    (picture,) = (tmp_path / "pictures").rglob("*.png")
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for kind, data in {"png": picture.read_bytes(), **members}.items():
            info = tarfile.TarInfo(f"000000000.{kind}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    root = Root(str(tmp_path / "root"))
    plan = plan_new(root, open_source(f"{tmp_path}/00000.tar"), ShardOptions())
    assert plan is not None
    store = ShardStore(root)
    store.adopt(plan, "00000", judge)
    (row,) = next(store.index(ShardName(plan.batch, "00000"))).to_pylist()
    assert row["captions"] == expected
