"""What reviewers decide is kept, and `apply-edits` makes a run of it that can be taken back."""

import json
import multiprocessing
import uuid
from pathlib import Path

import pyarrow as pa
import pytest
from curated_runs import failed, lay_run, row

from storage.captions import caption_store, find_captions, open_captions
from storage.edits import Edit, EditLog, standing
from storage.edits_apply import apply_edits
from storage.errors import ConfigurationError, ShardError
from storage.generations import supersede
from storage.layout import ShardName, open_root
from storage.parquet import read, rows_to_table
from storage.receipts import Receipt
from storage.run_summary import finalise
from storage.schema import CAPTIONS

TWO = [
    {"text": "a brown dog on a beach", "logprob": -6.0, "n_tokens": 5, "clip_sim": 0.31},
    {"text": "a dog runs", "logprob": -4.5, "n_tokens": 3, "clip_sim": 0.27},
]
CANDIDATES = [one | {"seed": 7} for one in TWO]


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Two shards, three sound rows and a failed one, summed up."""
    shards = {
        "0000/00000": [row("a", captions=CANDIDATES), row("b"), failed("c")],
        "0000/00001": [row("d")],
    }
    url = lay_run(tmp_path / "root", shards)
    finalise(open_root(url), find_captions(open_root(url)))
    return url


def log_of(root: str) -> EditLog:
    log = EditLog(open_root(root), "run")
    log.refresh()
    return log


def decide(root: str, key: str, action: str, caption: str = "", **given: str) -> Edit:
    """One decision about row `key`, kept."""
    log = log_of(root)
    plain = {"shard": "0000/00000", "undoes": "", "by": "ann", "id": uuid.uuid4().hex}
    edit = Edit(key=key, action=action, caption=caption, at=log.now(), **(plain | given))
    log.add([edit])
    return edit


def rows(root: str) -> dict[str, dict[str, object]]:
    return {one["key"]: one for one in open_captions(root, "run").read_all().to_pylist()}


def files(root: str) -> list[str]:
    return sorted(path.name for path in Path(root, "captions", "run", "0000").iterdir())


def test_an_accepted_caption_brings_its_own_scores(root: str) -> None:
    decide(root, "a", "accept", "a dog runs")
    apply_edits(root)
    found = rows(root)["a"]
    assert (found["caption"], found["caption_logprob"], found["n_tokens"]) == (
        "a dog runs",
        -4.5,
        3,
    )
    assert found["clip_sim"] == pytest.approx(0.27)
    assert [one["text"] for one in found["captions"]] == ["a dog runs", "a brown dog on a beach"]


def test_a_caption_written_by_hand_has_no_scores_of_a_model(root: str) -> None:
    text = "=SUM(A1) <script>alert(1)</script>\n\u05e9\u05dc\u05d5\u05dd 🐕"
    decide(root, "b", "edit", text)
    apply_edits(root)
    found = rows(root)["b"]
    assert found["caption"] == text
    assert (found["clip_sim"], found["caption_logprob"], found["n_tokens"]) == (None, None, None)
    assert [one["text"] for one in found["captions"]] == [text, "a brown dog on a beach"]


def test_a_rejected_row_is_a_failed_row(root: str) -> None:
    decide(root, "a", "reject")
    apply_edits(root)
    found = rows(root)["a"]
    assert (found["status"], found["error_code"], found["caption"]) == ("error", "rejected", None)
    assert found["captions"] == []
    assert found["orig_caption"] == "a dog on a beach"


@pytest.mark.parametrize("action", ["reject", "edit"])
def test_a_picture_that_failed_keeps_its_code_whatever_was_decided(root: str, action: str) -> None:
    """Each stage hands failures down; whoever compares stages relies on it."""
    before = rows(root)["c"]
    decide(root, "c", action, "a torn photograph")
    apply_edits(root)
    assert rows(root)["c"] == before
    assert before["error_code"] == "corrupt"


def test_a_rejected_row_can_be_given_another_caption(root: str) -> None:
    decide(root, "a", "reject")
    apply_edits(root)
    decide(root, "a", "accept", "a dog runs")
    apply_edits(root)
    assert (rows(root)["a"]["status"], rows(root)["a"]["caption_logprob"]) == ("ok", -4.5)


def test_edits_make_a_new_generation_that_names_the_old_and_is_summed_up(root: str) -> None:
    store = caption_store(open_root(root), find_captions(open_root(root)))
    before = store.receipt(ShardName("0000", "00000"))
    decide(root, "b", "edit", "a cat")
    done = apply_edits(root)
    after = store.receipt(ShardName("0000", "00000"))
    assert (done.shards, done.changed, done.sealed) == (["0000/00000"], 1, True)
    assert (after.generation, after.facts["supersedes"]) == (1, before.digest)
    assert (after.inputs, after.fingerprint) == (before.inputs, before.fingerprint)
    parquet = [name for name in files(root) if name.endswith(".parquet")]
    assert len(parquet) == 2, "a plain glob must be exactly the run"
    stats = json.loads(Path(root, "captions", "run", "stats.json").read_text())
    assert stats["rows"] == 4


def test_applying_twice_changes_nothing(root: str) -> None:
    decide(root, "b", "edit", "a cat")
    apply_edits(root)
    before = files(root)
    assert apply_edits(root).shards == []
    assert files(root) == before


def test_an_undo_after_applying_restores_the_row_exactly(root: str) -> None:
    before = rows(root)
    edit = decide(root, "a", "reject")
    other = decide(root, "b", "edit", "a cat")
    apply_edits(root)
    assert rows(root) != before
    decide(root, "a", "undo", undoes=edit.id)
    decide(root, "b", "undo", undoes=other.id)
    apply_edits(root)
    assert rows(root) == before


def test_an_undo_brings_the_decision_before_back(root: str) -> None:
    decide(root, "b", "edit", "first")
    second = decide(root, "b", "edit", "second")
    decide(root, "b", "undo", undoes=second.id)
    apply_edits(root)
    assert rows(root)["b"]["caption"] == "first"


def test_of_two_reviewers_the_later_counts_and_both_are_kept(root: str) -> None:
    decide(root, "b", "edit", "by ann", by="ann")
    decide(root, "b", "edit", "by bob", by="bob")
    apply_edits(root)
    history = log_of(root).history(("0000/00000", "b"))
    assert rows(root)["b"]["caption"] == "by bob"
    assert [(edit.by, edit.caption) for edit in history] == [("ann", "by ann"), ("bob", "by bob")]


def test_a_row_captioned_anew_is_edited_anew(root: str) -> None:
    """Another stage may put a generation above ours; what it made is then the row's beginning."""
    edit = decide(root, "b", "edit", "a cat")
    apply_edits(root)
    store = caption_store(open_root(root), find_captions(open_root(root)))
    lay = [row("a"), row("b", caption="a newer caption"), row("c")]
    lay = [one | {"shard": "0000/00000"} for one in lay]
    supersede(store, ShardName("0000", "00000"), lambda _: [rows_to_table(lay, CAPTIONS)])
    apply_edits(root)
    assert rows(root)["b"]["caption"] == "a cat"
    decide(root, "b", "undo", undoes=edit.id)
    apply_edits(root)
    assert rows(root)["b"]["caption"] == "a newer caption"


def test_whoever_commits_a_generation_meanwhile_is_built_upon(root: str) -> None:
    store = caption_store(open_root(root), find_captions(open_root(root)))
    shard = ShardName("0000", "00000")
    seen: list[int] = []

    def with_text(standing: Receipt, text: str) -> list[pa.Table]:
        found = pa.concat_tables(read(store.root.absolute(standing.files[0].url))).to_pylist()
        return [rows_to_table([one | {"orig_caption": text} for one in found], CAPTIONS)]

    def slow(standing: Receipt) -> list[pa.Table]:
        seen.append(standing.generation)
        if len(seen) == 1:
            supersede(store, shard, lambda first: with_text(first, "theirs"))
        return with_text(standing, "ours")

    made = supersede(store, shard, slow)
    assert (seen, made.generation) == ([0, 1], 2)
    assert rows(root)["b"]["orig_caption"] == "ours"


def test_a_row_that_is_gone_is_counted(root: str) -> None:
    decide(root, "zz", "edit", "a ghost")
    decide(root, "b", "edit", "a ghost", shard="0009/00000")
    done = apply_edits(root)
    assert (done.strangers, done.shards) == (2, [])


def test_a_run_nobody_reviewed_is_told(root: str) -> None:
    with pytest.raises(ConfigurationError, match="nobody has reviewed run 'run'"):
        apply_edits(root)


def test_a_torn_file_of_edits_is_named_and_nothing_is_applied(root: str) -> None:
    decide(root, "b", "edit", "a cat")
    path = next(Path(root, "edits", "run").rglob("*.json"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ShardError, match=path.name):
        apply_edits(root)


def test_without_a_damaged_file_all_others_count(root: str) -> None:
    """As the sentence about it advises: moved out of its folder, it takes no other along."""
    log = log_of(root)
    for number in range(3):
        edit = Edit(
            id=uuid.uuid4().hex,
            shard="0000/00000",
            key="b",
            action="edit",
            caption=f"caption {number}",
            by="ann",
            at=log.now(),
        )
        log.add([edit])
    next(Path(root, "edits", "run").rglob("000001.json")).unlink()
    history = log_of(root).history(("0000/00000", "b"))
    assert [edit.caption for edit in history] == ["caption 0", "caption 2"]


def test_the_same_decision_sent_twice_is_one(root: str) -> None:
    edit = decide(root, "b", "edit", "a cat")
    assert log_of(root).add([edit]) == []
    assert len(list(Path(root, "edits", "run").rglob("*.json"))) == 1


def _add_many(root: str, by: str) -> None:
    for number in range(25):
        decide(root, "b", "edit", f"{by} {number}", by=by)


def test_reviewers_in_two_processes_lose_nothing(root: str) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_many, args=(root, by)) for by in ("ann", "bob")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    history = log_of(root).history(("0000/00000", "b"))
    said = {edit.caption for edit in history}
    assert said == {f"{by} {number}" for by in ("ann", "bob") for number in range(25)}
    last = standing(history)
    assert last is not None
    assert last.at == max(edit.at for edit in history)


def test_edits_and_generations_work_in_an_object_store() -> None:
    root = lay_run(f"memory://{uuid.uuid4().hex}", {"0000/00000": [row("a"), row("b")]})
    decide(root, "b", "edit", "a cat")
    assert apply_edits(root).changed == 1
    assert rows(root)["b"]["caption"] == "a cat"
