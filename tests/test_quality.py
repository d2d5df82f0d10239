"""What a run's statistics say of its captions, and when they raise an alarm."""

import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from storage.captions import caption_store, run_settings
from storage.errors import ShardError
from storage.layout import Root, ShardName, open_root
from storage.parquet import rows_to_table
from storage.quality_alarms import alarms
from storage.quality_text import has_long_repeat, text_measures
from storage.quantiles import Spool
from storage.run_summary import finalise
from storage.sampling import Smallest, mark_of
from storage.schema import CAPTIONS, with_facts
from storage.settled import Settled

GOOD = {"rows": 1000, "unstopped": 0, "candidates": 5000, "scored": 1000, "first": 250.0}
GOOD |= {"best": 300.0, "aligned": 1000, "margin": 150.0, "squares": 27.5}
"""A margin of 0.15 with a spread of 0.07."""


def row(shard: str, at: int, caption: str | None, score: float = 0.3) -> dict[str, Any]:
    empty = dict.fromkeys(CAPTIONS.names)
    said = {"caption": caption, "clip_sim": score, "n_tokens": 7, "caption_logprob": -at / 8}
    failed = {"status": "error", "error_code": "truncated"}
    how = {"status": "ok", "error_code": "", **said} if caption is not None else failed
    return {**empty, "key": f"{at:08}", "shard": shard, "captions": [], **how}


def settled(root: Root, name: str) -> Settled:
    resolved = {"model": name, "scorer": "one"}
    return run_settings(root).settle({"ask": name}, lambda: resolved, title="model", name=name)


def write(
    root: Root, run: Settled, shards: list[list[str | None]], facts: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The statistics of a run whose shards hold these captions, None for a failed picture."""
    for number, captions in enumerate(shards):
        name = ShardName("0000", f"{number:05}")
        rows = [row(str(name), at, text) for at, text in enumerate(captions)]
        tables = [rows_to_table(rows, CAPTIONS)] if rows else []
        told = partial(dict, quality=facts or {**GOOD, "rows": len(rows)})
        caption_store(root, run).commit(name, tables, with_facts(CAPTIONS, {}), (), told)
    return finalise(root, run)


def plain(count: int, start: int = 0) -> list[str | None]:
    return [f"picture {at} shows object {at * 7} of kind {at % 13}" for at in range(start, count)]


def test_figures_are_exact_and_equal_numbers_give_equal_bytes(tmp_path: Path) -> None:
    said = [*plain(30), None, "twice said", "twice said"]
    stats = []
    for folder in ("one", "two"):
        root = open_root(str(tmp_path / folder))
        stats.append(write(root, settled(root, "run"), [said, [], ["alone"], [None, None]]))
    assert stats[0] == stats[1]
    found = stats[0]
    assert (found["rows"], found["captioned"], found["failures"]) == (36, 33, {"truncated": 3})
    assert found["top_caption"] == {"caption": "twice said", "rows": 2, "share": 0.060606}
    assert found["distinct_captions"] == 32
    assert found["texts"]["captions"] == 33
    assert found["shards"]["0000/00003"]["failures"] == {"truncated": 2}
    assert found["shards"]["0000/00003"]["texts"] is None
    assert found["shards"]["0000/00001"]["rows"] == 0
    assert found["quantiles"]["caption_logprob"]["p50"] == -1.875
    assert found["margin"] == pytest.approx(0.15)
    assert found["alarms"] == []
    names = {path.read_bytes() for path in tmp_path.glob("*/captions/run/stats.json")}
    assert len(names) == 1


@pytest.mark.parametrize("seed", range(4))
def test_quantiles_are_those_of_numpy(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 10.0**seed, 1 + 997 * seed).astype(np.float32)
    values[:: 5 + seed] = 0.0
    spool = Spool(tmp_path / "spool")
    for part in np.array_split(values, 7):
        spool.add(part)
    points = (0.0, 0.01, 0.25, 0.5, 0.99, 1.0)
    expected = np.quantile(values.astype(np.float64), points)
    found = spool.quantiles(points)
    assert found
    assert list(found.values()) == pytest.approx(expected.tolist(), rel=1e-12)
    assert spool.mean() == pytest.approx(values.astype(np.float64).mean())


def test_a_spool_of_nothing_has_no_quantiles(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    assert spool.quantiles() is None
    assert spool.mean() is None


def test_the_sample_is_the_same_in_any_order() -> None:
    names = [f"row {at}" for at in range(500)]
    one: Smallest[str] = Smallest(20)
    other: Smallest[str] = Smallest(20)
    for name in names:
        one.add(mark_of(name), name)
    for name in reversed(names):
        other.add(mark_of(name), name)
    assert one.things() == other.things()
    assert len(set(one.things())) == 20


def test_wording_is_measured() -> None:
    hat = "a man wearing " + "a hat on top of " * 12
    found = text_measures(["a red hat", "A red hat!", "two blue coats, folded", hat, ""])
    assert found
    assert (found["captions"], found["opening"], found["opening_share"]) == (5, "a red hat", 0.4)
    assert found["repeated_3gram_share"] == 0.2
    assert found["long_repeat_share"] == 0.2
    assert found["wordless_share"] == 0.2
    assert found["packed_p1"] < 0.3
    assert found["packed_p50"] > 0.8
    assert text_measures([]) is None


@pytest.mark.parametrize(
    "text",
    ["two\nlines", "شكل أحمر كبير على خلفية بيضاء", "🐈🐈🐈 🛹", "x" * 10_000, "\ud800 lone"],
)
def test_any_text_can_be_measured(text: str) -> None:
    found = text_measures([text])
    assert found
    assert found["characters_mean"] == len(text)
    assert has_long_repeat(text) == (len(text) == 10_000)


def names_of(stats: dict[str, Any], previous: dict[str, Any] | None = None) -> list[str]:
    return [one["alarm"] for one in alarms(stats, previous)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Statistics of 1,200 captions that nothing is wrong with."""
    root = open_root(str(tmp_path_factory.mktemp("sound") / "root"))
    return write(root, settled(root, "sound"), [plain(1200)])


def test_captions_that_fit_any_picture_raise_the_alarm(
    sound: dict[str, Any], tmp_path: Path
) -> None:
    """Shifted rows and captions that ignore their pictures look alike: no margin is left."""
    assert names_of(sound) == []
    root = open_root(str(tmp_path / "root"))
    shifted = {**GOOD, "margin": 0.4, "squares": 5.0}
    stats = write(root, settled(root, "run"), [plain(1200)], shifted)
    assert [one["alarm"] for one in stats["alarms"]] == ["alignment"]
    assert "ALARM" not in (tmp_path / "root/captions/run/README.md").read_text()
    assert "Alarm `alignment`" in (tmp_path / "root/captions/run/README.md").read_text()
    few = write(open_root(str(tmp_path / "few")), settled(root, "run"), [plain(900)], shifted)
    assert few["alarms"] == []


def test_one_shifted_shard_among_sound_ones_is_named(sound: dict[str, Any]) -> None:
    bad = {**sound["shards"]["0000/00000"], "margin": 0.001, "margin_effect": 0.01}
    stats = {**sound, "shards": {**sound["shards"], "0000/00001": bad}}
    (alarm,) = alarms(stats)
    assert alarm["says"].startswith("shard 0000/00001: ")


def test_one_caption_too_often_raises_the_alarm(tmp_path: Path) -> None:
    root = open_root(str(tmp_path / "root"))
    said = [*plain(1200), *["I cannot see the picture."] * 8]
    stats = write(root, settled(root, "run"), [said])
    assert [one["alarm"] for one in stats["alarms"]] == ["top_caption"]
    assert "I cannot see" in stats["alarms"][0]["says"]


def test_a_shard_that_fails_more_than_others_raises_the_alarm(tmp_path: Path) -> None:
    root = open_root(str(tmp_path / "root"))
    usual: list[str | None] = [*plain(100), None]
    stats = write(root, settled(root, "run"), [usual] * 6 + [[*plain(70), *[None] * 31]])
    (alarm,) = stats["alarms"]
    assert alarm["alarm"] == "error_share"
    assert alarm["says"].startswith("shard 0000/00006: 31 of 101 pictures failed")
    other = open_root(str(tmp_path / "other"))
    even = write(other, settled(other, "run"), [usual] * 6 + [[*plain(100), None, None]])
    assert even["alarms"] == []


def test_a_run_much_worse_than_the_one_before_raises_the_alarm(tmp_path: Path) -> None:
    root = open_root(str(tmp_path / "root"))
    write(root, settled(root, "before"), [plain(1100)])
    worse = [f"a picture a picture a picture of kind {at}" for at in range(1100)]
    lower = {**GOOD, "margin": 60.0, "squares": 8.0, "unstopped": 400}
    stats = write(root, settled(root, "now"), [worse], lower)
    assert stats["compared_with"] == "before"
    told = " ".join(one["says"] for one in stats["alarms"])
    for figure in ("margin", "distinct_2", "repeated_3gram_share", "opening_share", "unstopped"):
        assert figure in told
    assert all(one["alarm"] == "change" for one in stats["alarms"])
    assert finalise(root, settled(root, "now")) == stats
    assert finalise(root, settled(root, "before"))["compared_with"] == "now"


def test_scores_of_another_scorer_are_not_compared(sound: dict[str, Any]) -> None:
    before = {**sound, "margin": 0.9, "means": {**sound["means"], "clip_sim": 0.9}}
    assert names_of(sound, before) == ["change", "change"]
    assert names_of(sound, {**before, "scorer": "another"}) == []


def test_a_damaged_file_is_named_in_one_sentence(tmp_path: Path) -> None:
    root = open_root(str(tmp_path / "root"))
    run = settled(root, "run")
    write(root, run, [plain(50)])
    (path,) = tmp_path.glob("root/captions/run/0000/*.parquet")
    data = bytearray(path.read_bytes())
    data[100 : len(data) // 2 : 7] = bytes(len(data[100 : len(data) // 2 : 7]))
    path.write_bytes(data)
    with pytest.raises(ShardError, match="00000-"):
        finalise(root, run)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Different captions of 0.1 KB are counted, not held; DuckDB's own memory is capped apart."""

    def tables(count: int) -> Iterator[pa.Table]:
        for start in range(0, count, 5000):
            rows = [
                row("0000/00000", at, f"{at} {'words ' * 15}") for at in range(start, start + 5000)
            ]
            yield rows_to_table(rows, CAPTIONS)

    peaks = []
    for count in (20_000, 60_000):
        root = open_root(str(tmp_path / f"{count}"))
        run, half = settled(root, "run"), count // 4
        for number in range(4):
            name = ShardName("0000", f"{number:05}")
            caption_store(root, run).commit(name, tables(half), CAPTIONS, ())
        tracemalloc.start()
        finalise(root, run)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 4e6
