"""Captions against references: the figures of COCO's own evaluation, and honest intervals."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captioner.fakes import SizeEncoder
from captioner.metrics import compare, intervals, mean_of, overlap_measures, tokenize
from captioner.metrics.clip import clip_measures, nearest_references

FIXTURE = Path(__file__).with_name("coco_scores.json.gz")


@pytest.fixture(scope="module")
def coco() -> dict[str, Any]:
    """500 captions with five references each, and what pycocoevalcap 1.2 says of them."""
    scores: dict[str, Any] = json.loads(gzip.decompress(FIXTURE.read_bytes()))
    return scores


def split(rows: list[dict[str, Any]]) -> tuple[list[list[str]], list[list[list[str]]]]:
    captions = [row["caption"].split() for row in rows]
    return captions, [[text.split() for text in row["references"]] for row in rows]


def test_figures_equal_those_of_pycocoevalcap(coco: dict[str, Any]) -> None:
    measures = overlap_measures(*split(coco["rows"]))
    assert len(coco["rows"]) == 500
    assert {len(row["references"]) for row in coco["rows"]} == {5}
    found = {name: measure.value for name, measure in measures.items()}
    assert found == pytest.approx(coco["scores"], abs=1e-6)
    for name, key in (("CIDEr-D", "cider_d"), ("ROUGE-L", "rouge_l")):
        expected = [row[key] for row in coco["rows"]]
        assert measures[name].rows_NK[:, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_an_interval_holds_the_value_and_narrows_with_more_captions(coco: dict[str, Any]) -> None:
    few = intervals(overlap_measures(*split(coco["rows"][:50])))
    many = intervals(overlap_measures(*split(coco["rows"])))
    for name, one in many.items():
        assert one.low < one.value < one.high
        assert one.high - one.low < few[name].high - few[name].low
    assert many == intervals(overlap_measures(*split(coco["rows"])))
    assert many != intervals(overlap_measures(*split(coco["rows"])), seed=1)


def test_a_paired_difference_is_seen_where_apart_intervals_overlap() -> None:
    """Two runs of the same pictures go up and down together."""
    rng = np.random.default_rng(0)
    hard_N = rng.normal(0, 1, 400)
    ours = {"score": mean_of(hard_N + 0.05 + rng.normal(0, 0.01, 400))}
    theirs = {"score": mean_of(hard_N)}
    apart = intervals(ours)["score"].low < intervals(theirs)["score"].high
    difference = compare(ours, theirs)["score"]
    assert apart
    assert 0 < difference.low < 0.05 < difference.high + 0.01


def test_the_interval_of_a_mean_is_the_one_of_theory() -> None:
    values = np.random.default_rng(3).normal(10, 2, 2000)
    found = intervals({"mean": mean_of(values)})["mean"]
    half = 1.96 * values.std() / 2000**0.5
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A man riding a wave.", ["a", "man", "riding", "a", "wave"]),
        ("The dog's ball isn\u2019t here!", ["the", "dog", "'s", "ball", "is", "n't", "here"]),
        ("black-and-white,  two\nlines\ttoo", ["black-and-white", "two", "lines", "too"]),
        ("at 5:30 p.m. for $3.50", ["at", "5:30", "p.m.", "for", "$", "3.50"]),
        ("a 🐈 on 🛹!", ["a", "🐈", "on", "🛹"]),
        ("כלב שחור רץ.", ["כלב", "שחור", "רץ"]),
        ("Café naïve", ["café", "naïve"]),
        ("...!?", []),
        ("", []),
    ],
)
def test_text_becomes_tokens(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


def test_captions_that_say_nothing_or_far_too_much_are_measured() -> None:
    references = [["a", "red", "circle"], ["one", "circle"]]
    captions = [[], ["a"] * 2000, ["a", "red", "circle"]]
    measures = overlap_measures(captions, [references] * 3)
    assert all(np.isfinite(one.value) and one.value >= 0 for one in measures.values())
    assert measures["ROUGE-L"].rows_NK[0, 0] == 0
    assert measures["CIDEr-D"].rows_NK[2, 0] >= measures["CIDEr-D"].rows_NK[1, 0]
    assert all(np.isfinite([one.low, one.high]).all() for one in intervals(measures).values())


def test_a_caption_without_references_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one reference"):
        overlap_measures([["a"]], [[]])


def test_clip_scores_are_those_of_the_paper() -> None:
    measures = clip_measures([0.3, -0.2], [0.8, 0.9])
    assert measures["CLIPScore"].rows_NK[:, 0].tolist() == pytest.approx([0.75, 0.0])
    assert measures["RefCLIPScore"].rows_NK[:, 0].tolist() == pytest.approx(
        [2 * 0.75 * 0.8 / 1.55, 0.0]
    )
    assert list(clip_measures([0.3], [])) == ["CLIPScore"]


def test_the_nearest_reference_is_the_captions_own() -> None:
    captions = ["40 by 30", "200 by 10"]
    references = [["3 by 200", "40 by 30"], ["7 by 90"]]
    found = nearest_references(SizeEncoder(), captions, references, batch_size=1)
    told = SizeEncoder().encode_texts(["200 by 10", "7 by 90"])
    assert found == pytest.approx([1.0, float(torch.dot(*told))], abs=1e-6)
