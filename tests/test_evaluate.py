"""A run's captions judged by references, whatever file those come in."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collections_of_pictures import draw_sizes
from test_run import SIZE, run

from captioner.metrics import overlap_measures, tokenize
from flows.cli import app
from storage.errors import ConfigurationError
from storage.judged import join_references
from storage.references import read_references
from tasks.evaluating import EvaluateOptions, evaluate
from tasks.options import CaptionOptions, ComputeOptions

HOSTILE = [
    "two\nlines of\r\ntext",
    "כלב שחור רץ",
    "🐈 on 🛹",
    "word " * 2000,
    "tab\tand 'quote', \"too\"",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, prefect_api: None) -> tuple[str, dict[str, str]]:
    """A root with two runs of 12 pictures, one of them damaged, and what they must say."""
    home = tmp_path_factory.mktemp("judged")
    truths = draw_sizes(home / "pictures", 12)
    for at, path in enumerate(truths):
        said = [truths[path], f"a square, number {at}"] if at % 2 else [HOSTILE[at % 5]]
        text = "\n".join(" ".join(one.split()) for one in said)
        (home / "pictures" / path).with_suffix(".txt").write_text(text)
    (home / "pictures" / "zz.png").write_text("no picture")
    (home / "pictures" / "zz.txt").write_text("a picture that is damaged")
    root = str(home / "root")
    for name in ("one", "two"):
        changed = ComputeOptions(threads=1, batch_size=7 if name == "two" else None)
        run(
            home / "pictures",
            root,
            captions=CaptionOptions(model="size", run=name, compute=changed),
        )
    return root, truths


def captions_of(truths: dict[str, str]) -> dict[str, list[str]]:
    return {path: [text, *HOSTILE] for path, text in truths.items()}


def coco(path: Path, told: dict[str, list[str]]) -> None:
    names = {name: 100 + at for at, name in enumerate(told)}
    images = [{"id": number, "file_name": Path(name).name} for name, number in names.items()]
    pairs = [(names[name], text) for name, texts in told.items() for text in texts]
    said = [{"image_id": number, "caption": text} for number, text in pairs]
    path.write_text(json.dumps({"images": images, "annotations": said}))


def karpathy(path: Path, told: dict[str, list[str]]) -> None:
    images = [
        {"filename": Path(name).name, "imgid": at, "sentences": [{"raw": text} for text in texts]}
        for at, (name, texts) in enumerate(told.items())
    ]
    path.write_text(json.dumps({"images": images}))


def by_number(path: Path, told: dict[str, list[str]]) -> None:
    """Ids as COCO's results have them: the number in the file's name."""
    pairs = [(int(Path(name).stem), text) for name, texts in told.items() for text in texts]
    path.write_text(json.dumps([{"image_id": number, "caption": text} for number, text in pairs]))


def plain_object(path: Path, told: dict[str, list[str]]) -> None:
    path.write_text(json.dumps(told))


def lines(path: Path, told: dict[str, list[str]]) -> None:
    rows = [{"id": name, "captions": texts} for name, texts in told.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def comma_separated(path: Path, told: dict[str, list[str]]) -> None:
    import csv

    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "caption"])
        writer.writerows((name, text) for name, texts in told.items() for text in texts)


def parquet(path: Path, told: dict[str, list[str]]) -> None:
    pairs = [(name, text) for name, texts in told.items() for text in texts]
    table = pa.table({"id": [name for name, _ in pairs], "caption": [text for _, text in pairs]})
    pq.write_table(table, path)


FORMS = {
    "coco.json": coco,
    "karpathy.json": karpathy,
    "results.json": by_number,
    "object.json": plain_object,
    "lines.jsonl": lines,
    "table.csv": comma_separated,
    "table.parquet": parquet,
}


@pytest.mark.parametrize("name", FORMS)
def test_every_kind_of_file_gives_the_same_references(
    name: str, made: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    root, truths = made
    FORMS[name](tmp_path / name, captions_of(truths))
    joined = join_references(root, "one", str(tmp_path / name), 100)
    found = {one.caption: tokens(one.references) for one in joined.rows}
    assert found == {text: tokens([text, *HOSTILE]) for text in truths.values()}
    counts = joined.counts
    assert (counts["rows"], counts["matched"], counts["without_references"]) == (13, 12, 1)
    assert counts["references_without_row"] == 0


def tokens(texts: Any) -> list[list[str]]:
    return sorted(tokenize(text) for text in texts)


def test_figures_are_those_of_captions_and_references(
    made: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    root, truths = made
    told = captions_of(truths)
    lines(tmp_path / "told.jsonl", told)
    found = evaluate(root, EvaluateOptions(run="one", references=str(tmp_path / "told.jsonl")))
    said = [tokenize(text) for text in truths.values()]
    expected = overlap_measures(said, [[tokenize(one) for one in told[path]] for path in truths])
    for name, measure in expected.items():
        assert found["metrics"][name]["value"] == pytest.approx(measure.value, abs=1e-6)
    assert found["metrics"]["BLEU-4"]["value"] == pytest.approx(1.0, abs=1e-6)
    assert found["metrics"]["CLIPScore"]["value"] == pytest.approx(2.5, abs=1e-3)
    assert found["metrics"]["RefCLIPScore"]["value"] == pytest.approx(5 / 3.5, abs=1e-3)
    for one in found["metrics"].values():
        assert one["low"] <= one["value"] + 1e-6
        assert one["value"] <= one["high"] + 1e-6


def test_the_captions_that_pictures_came_with_are_the_default(
    made: tuple[str, dict[str, str]],
) -> None:
    found = evaluate(made[0], EvaluateOptions(run="one"))
    assert found["references"] == "the pictures' own captions"
    assert (found["rows"], found["evaluated"], found["failed"]) == (13, 12, 1)
    fewer = evaluate(made[0], EvaluateOptions(run="one", rows=5))
    assert (fewer["matched"], fewer["evaluated"]) == (12, 5)


def test_ids_that_match_nothing_are_named(made: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    root, truths = made
    file = tmp_path / "told.jsonl"
    lines(file, {f"elsewhere-{path}": [text] for path, text in truths.items()})
    with pytest.raises(ConfigurationError) as refused:
        join_references(root, "one", str(file), 100)
    said = str(refused.value)
    assert "none of the 12 ids" in said
    assert "'elsewhere-part-0/00000.png'" in said
    assert "path 'part-0/00000.png'" in said


def test_what_matches_in_part_is_counted_exactly(
    made: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    root, truths = made
    file = tmp_path / "told.jsonl"
    some = dict(list(captions_of(truths).items())[:7])
    lines(file, {**some, "gone/1.png": ["x"], "gone/2.png": ["y"], "empty": [" "]})
    counts = join_references(root, "one", str(file), 100).counts
    assert (counts["matched"], counts["without_references"], counts["failed"]) == (7, 6, 0)
    assert counts["references_without_row"] == 2
    assert counts["examples"] == ["gone/1.png", "gone/2.png"]


def test_an_id_of_two_rows_is_refused(
    made: tuple[str, dict[str, str]], tmp_path: Path, prefect_api: None
) -> None:
    for folder in ("left", "right"):
        draw_sizes(tmp_path / "pictures" / folder, 2)
    run(tmp_path / "pictures", str(tmp_path / "root"), captions=SIZE)
    lines(tmp_path / "told.jsonl", {"00000.png": ["a square"], "00001.png": ["a square"]})
    with pytest.raises(ConfigurationError, match="belongs to two rows by their file name"):
        join_references(str(tmp_path / "root"), "", str(tmp_path / "told.jsonl"), 100)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("told.txt.zip", "x", "of no known kind"),
        ("gone.jsonl", None, "there are no references at"),
        ("told.json", "[1, 2]", "are not captions of COCO, Karpathy"),
        ("told.json", '{"a": "  "}', "hold no captions"),
        ("told.json", '{"annotations": [{"caption": "x"}]}', "image_id"),
        ("told.csv", "id,size\na,1\n", "have no column of captions"),
        ("told.jsonl", "{no json", "cannot be read"),
    ],
)
def test_what_holds_no_references_is_said_in_one_sentence(
    name: str, content: str | None, why: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigurationError, match=why):
        read_references(str(tmp_path / name))


def test_two_runs_are_compared_on_the_same_pictures(
    made: tuple[str, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = made
    app(["evaluate", root, "--run", "one", "--against", "two", "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["against"]["run"] == "two"
    assert found["against"]["rows"] == 12
    assert found["against"]["metrics"] == found["metrics"]
    assert found["against"]["difference"].keys() == found["metrics"].keys()
    assert all(set(one.values()) == {0.0} for one in found["against"]["difference"].values())
    app(["evaluate", root, "--run", "one", "--against", "two"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "CIDEr-D" in shown
    assert "12 captions judged by the pictures' own captions" in shown
    with pytest.raises(ConfigurationError, match="name a run"):
        evaluate(root, EvaluateOptions())
