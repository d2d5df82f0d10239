"""The page about a run: everything on it is text, nothing on it comes from elsewhere."""

import base64
import io
import os
import re
from pathlib import Path

import pytest
from curated_runs import failed, lay_run, row
from exported_runs import HOSTILE_CAPTIONS, lay_pictures
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_pages import Parsed, lay_hostile

from captioner.histograms import histogram
from captioner.thumbnails import thumbnail
from storage.errors import ConfigurationError
from storage.quantiles import Spool
from storage.report import gather
from tasks.reporting import write_report

OUTSIDE = {"src", "href", "srcset", "poster", "data", "action", "formaction", "background", "cite"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    return lay_hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def page(hostile: str) -> str:
    return Path(write_report(hostile)).read_text(encoding="utf-8")


def parsed(root: str, run: str = "") -> Parsed:
    return Parsed(Path(write_report(root, run)).read_text(encoding="utf-8"))


def test_the_page_asks_for_nothing_from_elsewhere(page: str) -> None:
    found = Parsed(page)
    links = [value for name in OUTSIDE for value in found.values(name)]
    assert len(links) > 20
    assert [link for link in links if not link.startswith(("data:image/", "#"))] == []
    (policy,) = [attrs["content"] for attrs in found.tags("meta") if "http-equiv" in attrs]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    tags = {tag for tag, _ in found.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "svg"}
    assert not [name for _, attrs in found.elements for name in attrs if name.startswith("on")]
    assert "url(" not in page
    assert "@import" not in page


def test_every_hostile_caption_is_shown_letter_for_letter(page: str) -> None:
    found = Parsed(page)
    for caption in HOSTILE_CAPTIONS:
        text = caption.replace("\r\n", "\n")  # as every reader of HTML does
        beginning, rest = text[:280], text[280:]
        shown = [told for told in found.captions if told.rstrip("…") == beginning]
        assert shown, text[:60]
        if rest:
            assert rest in found.captions
    assert "gnp.dog & 'cat'.png" in found.text
    assert len(found.tags("b")) == 0


def test_the_page_tells_counts_alarms_speeds_filters_and_configuration(page: str) -> None:
    text = " ".join(Parsed(page).text.split())
    for told in (
        "Rows 26",
        "Captioned 24",
        "corrupt 2 the picture is damaged",
        "top_caption 12 of 24 captions are '<b>a dog</b>'",
        "nightcap run that did something: 12.5 s",
        "embed 26 4.0 6.5 7 0",
        "Recipe mine",
        '"scorer": "nano"',
    ):
        assert told in text, told


def test_best_and_worst_are_the_highest_and_lowest_scores(tmp_path: Path) -> None:
    scores = [((number * 37) % 101) / 100 for number in range(101)]
    rows = [row(f"{n:03}", caption=f"c{n}", clip_sim=score) for n, score in enumerate(scores)]
    root = lay_run(tmp_path / "root", {"0000/00000": rows[:50], "0000/00001": rows[50:]})
    sheets = gather(root).sheets
    best = [round(one["clip_sim"], 2) for one in sheets["best"]]
    worst = [round(one["clip_sim"], 2) for one in sheets["worst"]]
    assert best == sorted(scores, reverse=True)[:30]
    assert worst == sorted(scores)[:30]
    assert len(sheets["random"]) == 60
    assert len({one["key"] for one in sheets["random"]}) == 60


def test_of_few_rows_half_are_best_and_half_are_worst(tmp_path: Path) -> None:
    rows = [row(f"{n}", clip_sim=n / 10) for n in range(5)]
    sheets = gather(lay_run(tmp_path / "root", {"0000/00000": rows})).sheets
    assert [one["key"] for one in sheets["best"]] == ["4", "3", "2"]
    assert [one["key"] for one in sheets["worst"]] == ["0", "1"]


def test_a_run_without_scores_is_ranked_by_log_probability(tmp_path: Path) -> None:
    rows = [row(f"{n}", clip_sim=None, caption_logprob=-float(n)) for n in range(40)]
    report = gather(lay_run(tmp_path / "root", {"0000/00000": rows}))
    assert report.ranked_by == "caption_logprob"
    assert report.sheets["best"][0]["key"] == "0"
    assert report.sheets["worst"][0]["key"] == "39"
    assert [one.name for one in report.histograms] == ["caption_logprob", "words"]


def test_failures_of_every_code_are_shown(tmp_path: Path) -> None:
    many = [failed(f"{n:04}") for n in range(500)]
    rare = [failed("rare") | {"error_code": "too_large"}]
    root = lay_run(tmp_path / "root", {"0000/00000": [*many, *rare]})
    shown = gather(root).sheets["failed"]
    assert [one["error_code"] for one in shown] == ["corrupt"] * 10 + ["too_large"]


def test_runs_with_no_row_one_row_or_only_failures_have_a_page(tmp_path: Path) -> None:
    empty = parsed(lay_run(tmp_path / "empty", {}))
    assert "This run has no rows" in empty.text
    bare = parsed(lay_run(tmp_path / "bare", {"0000/00000": []}))
    assert "This run has no rows" in bare.text
    bad = parsed(lay_run(tmp_path / "bad", {"0000/00000": [failed("a"), failed("b")]}))
    assert "There is no captioned row to count" in bad.text
    assert len(bad.tags("img")) == 0
    one = parsed(lay_pictures(tmp_path / "one", {"a.png": "the only caption"}))
    assert one.captions.count("the only caption") == 2  # at random, and best
    assert len([attrs for attrs in one.tags("img") if "jpeg" in attrs["src"]]) == 2
    with pytest.raises(ConfigurationError, match="no run 'nobody'"):
        write_report(str(tmp_path / "empty"), "nobody")


def test_pictures_whose_tar_is_gone_cut_or_changed_are_told(tmp_path: Path) -> None:
    root = lay_pictures(tmp_path, {f"{n:02}.png": f"caption {n}" for n in range(12)})
    tars = Path(root) / "shards" / "0000"
    (tars / "00000.tar").unlink()
    data = (tars / "00001.tar").read_bytes()
    (tars / "00001.tar").write_bytes(data[:600])
    other = bytearray((tars / "00002.tar").read_bytes())
    other[other.index(b"IDAT") + 9] ^= 255
    (tars / "00002.tar").write_bytes(bytes(other))
    found = parsed(root)
    assert "No picture: its tar is missing." in found.text
    assert "No picture: not in its tar any more." in found.text
    pictures = [attrs for attrs in found.tags("img") if "jpeg" in attrs["src"]]
    assert len({attrs["alt"] for attrs in pictures}) == 3  # of the last tar's four


def test_a_picture_that_is_not_the_captioned_one_is_not_shown(tmp_path: Path) -> None:
    found = parsed(lay_pictures(tmp_path, {"a.png": "a dog"}, sha256="0" * 64))
    assert "No picture: not in its tar any more." in found.text
    assert not [attrs for attrs in found.tags("img") if "jpeg" in attrs["src"]]


def test_captions_of_stored_embeddings_are_shown_without_pictures(tmp_path: Path) -> None:
    found = parsed(lay_run(tmp_path / "root", {"laid/00000": [row("a")]}))
    assert "no tar of this shard is under the root" in found.text


def test_the_largest_page_stays_under_20_mb(tmp_path: Path) -> None:
    """Every picture is noise, and every letter of the captions costs five bytes."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    captions: dict[str, str | None] = {f"{n:03}.png": '"' * 10_000 for n in range(130)}
    root = lay_pictures(tmp_path, captions, per_shard=200, orig_caption="'" * 10_000)
    size = Path(write_report(root)).stat().st_size
    noise = Image.frombytes("RGB", (200, 200), os.urandom(120_000))
    file = io.BytesIO()
    noise.save(file, "PNG")
    small = thumbnail(file.getvalue())
    assert small
    assert size + 120 * 4 / 3 * len(small[0]) < 20_000_000


def test_the_same_run_gives_the_same_page(hostile: str, page: str, tmp_path: Path) -> None:
    again = write_report(hostile, out=str(tmp_path / "page.html"))
    assert Path(again).read_text(encoding="utf-8") == page


def test_thumbnails_hold_pixels_and_nothing_else(page: str) -> None:
    for attrs in Parsed(page).tags("img"):
        kind, data = attrs["src"].split(";base64,")
        if kind == "data:image/jpeg":
            picture = Image.open(io.BytesIO(base64.b64decode(data)))
            assert max(picture.size) <= 200
            assert not picture.getexif()
            assert (str(picture.width), str(picture.height)) == (attrs["width"], attrs["height"])


def test_a_chart_has_only_colours_that_follow_the_readers_scheme() -> None:
    svg = histogram([0.0, 0.5, 1.0], [3, 5], "clip_sim, cosine", 0.6)
    drawn = svg.split("</style>", 1)[1]
    colours = set(re.findall(r"#[0-9a-f]{3,6}\b", re.sub(r"(xlink:href=\"|url\()#\w+", "", drawn)))
    assert colours == set()
    assert {"var(--ink)", "var(--bar)", "var(--grid)"} <= set(re.findall(r"var\(--\w+\)", drawn))
    assert svg == histogram([0.0, 0.5, 1.0], [3, 5], "clip_sim, cosine", 0.6)
    assert "clip_sim, cosine</text>" in svg


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), st.booleans())
def test_every_value_is_in_one_bar(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], whole: bool
) -> None:
    import numpy as np

    spool = Spool(tmp_path_factory.mktemp("spool") / "values")
    numbers = np.array([round(one) if whole else one for one in values], dtype=np.float32)
    spool.add(numbers)
    edges, counts = spool.histogram(7, whole=whole)
    assert sum(counts) == len(values)
    assert len(edges) == len(counts) + 1
    assert len(counts) <= 8
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        last = high == edges[-1]
        inside = (numbers >= low) & ((numbers <= high) if last else (numbers < high))
        assert count == inside.sum() or low == high


def test_outliers_do_not_flatten_a_histogram(tmp_path: Path) -> None:
    import numpy as np

    spool = Spool(tmp_path / "values")
    spool.add(np.concatenate([np.linspace(10, 20, 5000), [9000.0]]).astype(np.float32))
    edges, counts = spool.histogram(10)
    assert edges[-1] < 21
    assert sum(counts) == 5001
    assert min(counts) > 400
