"""The shipped recipes keep exactly what the rules they are named after keep, on 10,000 rows.

The rules are stated again here, in plain Python and numpy, from mlfoundations/datacomp's
baselines/apply_filter.py and the papers that each recipe names.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from curated_runs import Row, failed, lay_run, row

from storage.curate import CurateOptions, curate
from storage.curate_recipe import load_recipe

B32, L14 = "ViT-B-32/openai", "ViT-L-14/openai"
ROWS = 10_000
WORDS = ["a", "dog", "the", "beach", "red", "日本", "été", "🙂", "von", "xx", "A", "Dog"]
GAPS = [" ", "  ", "\n", "\t", "\u00a0", "\u3000", "\x1c", "\x85", "\u200b"]


def language(text: str) -> str:
    """Stands in for the language model: a verdict that any line break would change."""
    assert "\r\n" not in text
    return ("en", "en", "de", "ja")[sum(map(ord, text.replace("\n", " "))) % 4]


def drawn_rows(seed: int = 3) -> list[Row]:
    """Rows that lie on every border of the rules, and around them."""
    draw = np.random.default_rng(seed)

    def text() -> str:
        count = int(draw.choice([0, 1, 2, 3, 4, 8, 255, 256, 257], p=[.05, .1, .15, .3, .2, .17, .01, .01, .01]))  # fmt: skip  # noqa: E501
        parts = [str(draw.choice(WORDS)) for _ in range(count)]
        return str(draw.choice(GAPS)).join(parts) + str(draw.choice(["", "", " ", "\n"]))

    def side() -> int:
        return int(draw.choice([1, 199, 200, 201, 400, 401, 500, 600, 601, 1000, 1002, 1203]))

    rows = []
    for number in range(ROWS):
        if number % 97 == 0:
            rows.append(failed(f"{number:06}"))
            continue
        scores = np.round(draw.uniform(0.2, 0.36, 2), 2 if number % 2 else 4).astype(np.float32)
        rows.append(
            row(
                f"{number:06}",
                caption=text(),
                orig_caption=None if number % 41 == 0 else text(),
                width=side(),
                height=side(),
                format=str(draw.choice(["JPEG", "PNG", "WEBP"], p=[0.8, 0.1, 0.1])),
                clip_sim=float(scores[0]),
                orig_clip_sim=None if number % 41 == 0 else float(scores[1]),
                sha256=f"{int(draw.integers(0, 8000)):064x}",
            )
        )
    return rows


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return drawn_rows()


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> dict[str, str]:
    """The same rows as scored by either encoder."""
    home = tmp_path_factory.mktemp("parity")
    parts = {f"0000/{at:05}": rows[at * 2500 : (at + 1) * 2500] for at in range(4)}
    return {name: lay_run(home / str(at), parts, scorer=name) for at, name in enumerate((B32, L14))}


def kept(root: str, recipe: str, *changes: str) -> set[str]:
    """Keys in ids.parquet, which must agree with rows.parquet."""
    done = curate(root, load_recipe(recipe, changes), CurateOptions(language=language))
    ids = set(pq.read_table(done.outputs[0])["key"].to_pylist())
    fates = pq.read_table(done.outputs[1]).to_pylist()
    assert len(fates) == ROWS
    assert {one["key"] for one in fates if one["keep"]} == ids
    assert all(one["keep"] == (one["drop_reason"] == "") for one in fates)
    assert len(ids) == done.kept
    return ids


def told(rows: list[Row], text: str, keeps: Callable[[Row, str], Any]) -> set[str]:
    """Keys of sound rows with a text that `keeps` keeps."""
    return {
        one["key"]
        for one in rows
        if one["status"] == "ok" and one[text] is not None and keeps(one, one[text])
    }


def datacomp_basic(one: Row, text: str) -> bool:
    english = language(text.replace("\n", " ")) == "en"
    smaller, larger = sorted((one["width"], one["height"]))
    return (
        english
        and len(text.split()) > 2
        and len(text) > 5
        and smaller >= 200
        and larger / smaller <= 3.0
    )


def cc12m(one: Row, text: str) -> bool:
    words = text.lower().split()
    smaller, larger = sorted((one["width"], one["height"]))
    return (
        one["format"] == "JPEG"
        and smaller > 400
        and larger / smaller <= 2.5
        and 3 <= len(words) <= 256
        and 1 - len(set(words)) / len(words) <= 0.2
    )


@pytest.mark.parametrize("text", ["caption", "orig_caption"])
def test_datacomp_basic_keeps_the_same_ids(
    text: str, rows: list[Row], roots: dict[str, str]
) -> None:
    expected = told(rows, text, datacomp_basic)
    assert 300 < len(expected) < ROWS / 2
    assert kept(roots[L14], "datacomp-basic", f"text={text}") == expected


@pytest.mark.parametrize("text", ["caption", "orig_caption"])
def test_cc12m_keeps_the_same_ids(text: str, rows: list[Row], roots: dict[str, str]) -> None:
    expected = told(rows, text, cc12m)
    assert 50 < len(expected) < ROWS / 2
    assert kept(roots[L14], "cc12m", f"text={text}") == expected


@pytest.mark.parametrize("fraction", [0.3, 0.1, 0.01, 0.999])
@pytest.mark.parametrize("column", ["clip_sim", "orig_clip_sim"])
def test_datacomp_clip_score_keeps_the_same_ids_by_fraction(
    column: str, fraction: float, rows: list[Row], roots: dict[str, str]
) -> None:
    scored = [one for one in rows if one[column] is not None]
    score_N = np.array([one[column] for one in scored], np.float32)
    border = -np.sort(-score_N)[int(len(score_N) * fraction)]
    expected = {one["key"] for one, fine in zip(scored, score_N >= border, strict=True) if fine}
    text = "caption" if column == "clip_sim" else "orig_caption"
    changes = (f"text={text}", f"score.top={fraction}")
    assert kept(roots[L14], "datacomp-clip-score", *changes) == expected


@pytest.mark.parametrize("threshold", [0.2, 0.25, 0.26, 0.28, 0.3, 0.36])
def test_datacomp_clip_score_keeps_the_same_ids_by_threshold(
    threshold: float, rows: list[Row], roots: dict[str, str]
) -> None:
    """numpy compares float32 scores with a threshold in float32: 0.26 as stored reaches 0.26."""
    scored = [one for one in rows if one["clip_sim"] is not None]
    fine_N = np.array([one["clip_sim"] for one in scored], np.float32) >= threshold
    expected = {one["key"] for one, fine in zip(scored, fine_N, strict=True) if fine}
    changes = ("score.top=", f"score.min={threshold}")
    assert kept(roots[L14], "datacomp-clip-score", *changes) == expected


@pytest.mark.parametrize("text", ["caption", "orig_caption"])
def test_laion_5b_keeps_the_same_ids(text: str, rows: list[Row], roots: dict[str, str]) -> None:
    score = "clip_sim" if text == "caption" else "orig_clip_sim"
    expected = told(
        rows,
        text,
        lambda one, words: (
            len(words) >= 5
            and language(words.replace("\n", " ")) == "en"
            and np.float32(one[score]) >= np.float32(0.28)
        ),
    )
    assert 100 < len(expected) < ROWS / 2
    assert kept(roots[B32], "laion-5b", f"text={text}") == expected


def test_laion_400m_keeps_the_same_ids(rows: list[Row], roots: dict[str, str]) -> None:
    """Of one picture the best row among those that the other rules left, then by name."""
    best: dict[str, Row] = {}
    for one in rows:
        text, score = one["orig_caption"], one["orig_clip_sim"]
        if text is None or one["status"] != "ok" or len(text) < 5:
            continue
        if np.float32(score) < np.float32(0.3):
            continue
        held = best.setdefault(one["sha256"], one)
        rival = (-np.float32(one["clip_sim"]), one["key"])
        if rival < (-np.float32(held["clip_sim"]), held["key"]):
            best[one["sha256"]] = one
    expected = {one["key"] for one in best.values()}
    assert 500 < len(expected) < ROWS / 2
    assert kept(roots[B32], "laion-400m", "text=orig_caption") == expected
