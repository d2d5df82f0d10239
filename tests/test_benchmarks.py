"""The harness behind the figures, at tiny sizes: equal work, fair turns, results that last."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tiny_models import tiny_encoder_folder

from benchmarks.__main__ import BENCHMARKS, summary
from benchmarks.__main__ import main as run_benchmarks
from benchmarks.captions_task import (
    TINY,
    CaptionsTask,
    best_generate,
    captions_task,
    check_lengths,
    equal_share,
    same_share,
)
from benchmarks.comparing import Rates, in_turns, share, versus
from benchmarks.decoding import agreement
from benchmarks.gated import Gated, few_rows, gated_images, gated_model, gigaflops
from benchmarks.likeness import check_alike, least_cosine
from benchmarks.peers import PeerMissingError, python_of
from benchmarks.photographs import tars
from benchmarks.photos import alike
from benchmarks.results import Row, keep
from benchmarks.settings import Settings
from benchmarks.side import Side, SideFailedError, SideSpec
from benchmarks.sides.ours_tars import embedded
from captioner.encoders import load_encoder
from captioner.model import CaptionModel
from captioner.pictures import inspect
from storage.receipts import Receipt
from storage.tar_reader import TarReader

RUN = {"command": "python -m benchmarks", "date": "today", "machine": "one", "versions": "1"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_captions_of_the_gated_model_have_the_lengths_ordered(dtype: torch.dtype) -> None:
    """Else sides would do unequal work."""
    model = gated_model(TINY).to(dtype)
    image_BC, lengths = gated_images(TINY, 45)
    captions = [row[0] for row in model.candidates(image_BC, TINY.decoding)]
    assert [one.n_tokens + 1 for one in captions] == lengths
    assert sorted(set(lengths)) == list(range(6, 21))
    assert sum(lengths) / len(lengths) == 13
    assert len({one.text for one in captions}) > 30


def test_few_rows_are_as_long_on_average_as_all() -> None:
    _, lengths = gated_images(TINY, 150)
    assert [lengths[row] for row in few_rows(lengths, 3)] == [8, 13, 18]


def test_the_work_of_a_caption_is_that_of_gpt2() -> None:
    """21 positions through 85 million weights and 12 through the vocabulary's 38.6 million."""
    mapper = 2 * (512 * 3840 + 3840 * 7680) / 1e9
    assert gigaflops(Gated(), [12]) - mapper == pytest.approx(4.50, abs=0.01)


def test_captions_of_other_lengths_are_refused() -> None:
    check_lengths("right", [[0] * 6, [0] * 7], [6, 7])
    with pytest.raises(ValueError, match="wrong wrote captions of other lengths"):
        check_lengths("wrong", [[0] * 6, [0] * 8], [6, 7])


def garbled(model: CaptionModel) -> CaptionModel:
    """The model with other words: all blocks but the gate's compute something else."""
    with torch.no_grad():
        for block in model.language.network.transformer.h[1:]:
            block.attn.c_attn.weight.neg_()
            block.mlp.c_fc.weight.neg_()
    return model


def test_wrong_words_of_the_right_lengths_are_refused() -> None:
    """The gate orders lengths whatever the blocks compute: lengths alone show nothing."""
    image_BC, lengths = gated_images(TINY, 30)
    right, wrong = (
        [[*row[0].token_ids, TINY.stop_id] for row in model.candidates(image_BC, TINY.decoding)]
        for model in (gated_model(TINY), garbled(gated_model(TINY)))
    )
    check_lengths("wrong", wrong, lengths)
    assert equal_share("itself", right, right) == 1
    with pytest.raises(ValueError, match=r"only 0\.0% of 30 captions are generate's in float32"):
        equal_share("generate", wrong, right)


class Garbled(CaptionsTask):
    """The task in which our side alone has garbled weights."""

    def ours(self, dtype: str = "", decoding: dict[str, Any] | None = None) -> SideSpec:
        """From a folder beside the right one."""
        other = f"{self.folder}-garbled"
        if not Path(other).exists():
            garbled(gated_model(self.gated)).save(Path(other))
        return replace(
            super().ours(dtype, decoding), setup=super().ours().setup | {"folder": other}
        )


@pytest.mark.slow
def test_the_decoding_benchmark_fails_on_wrong_words(tmp_path: Path) -> None:
    with captions_task(Settings(quick=True, threads=1, cache=tmp_path)) as task:
        wrong = Garbled(task.settings, task.gated, task.folder, task.count)
        with Side(task.loop()) as loop:
            assert "in fp32 100.0% to generate's" in agreement(task, loop)
            with pytest.raises(ValueError, match="are generate's in float32"):
                agreement(wrong, loop)


def test_the_measured_generate_has_done_nothing_but_its_best(tmp_path: Path) -> None:
    """Its peak memory would else be that of both precisions and all batch sizes."""
    settings = Settings(quick=True, threads=1, cache=tmp_path)
    with (
        captions_task(settings) as task,
        best_generate(task, (4, 8), task.count) as (generate, best),
    ):
        assert generate.spec.setup["dtypes"] == (best["dtype"],)
        assert best["batch"] in (4, 8)
        assert generate.peak_mib == 0
        assert generate.run({"items": 4, **best})["items"] == 4
        assert generate.peak_mib > 0


def test_equal_captions_are_counted() -> None:
    assert same_share([[1, 2], [3]], [(1, 2), (4,)]) == 0.5


def test_embeddings_of_the_same_pictures_are_compared_in_any_order() -> None:
    image_NC = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    ours = {"keys": list("abcd"), "image_NC": image_NC}
    peer = {"keys": list("cadb"), "image_NC": image_NC[[2, 0, 3, 1]]}
    assert check_alike("peer", ours, peer, "float32") == pytest.approx(1)
    with pytest.raises(ValueError, match=r"right ones have 0\.999 in float32"):
        check_alike("peer", ours, peer | {"keys": list("abcd")}, "float32")
    with pytest.raises(ValueError, match="other pictures"):
        check_alike("peer", ours, {"keys": list("cad"), "image_NC": image_NC[:3]}, "float32")
    with pytest.raises(ValueError, match="is nan"):
        check_alike("peer", ours | {"image_NC": image_NC * torch.nan}, peer, "bfloat16")


def test_a_cosine_is_taken_around_the_mean_of_all() -> None:
    """Else embeddings that a random tower takes for alike would all agree."""
    one_NC = torch.tensor([[100.0, 1], [100, -1]])
    assert least_cosine(one_NC, one_NC.flip(0)) == pytest.approx(-1)


def test_pictures_that_failed_are_not_counted_as_embedded() -> None:
    """A failed picture costs no embedding."""
    whole = Receipt(stage="embed", shard="0/0", fingerprint="", rows=3)
    assert embedded([whole, whole]) == 6
    with pytest.raises(SystemExit, match="2 of 6 pictures failed: corrupt, empty"):
        embedded([whole, replace(whole, failures={"empty": 1, "corrupt": 1})])


def test_photos_reach_their_aim_by_likeness_too(tmp_path: Path) -> None:
    encoder = load_encoder(tiny_encoder_folder(tmp_path / "encoder"), dtype="float32")
    right = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    fast = versus(Rates((4,)), Rates((1,)), 3, benchmark="photos", name="n")
    slow = versus(Rates((2,)), Rates((1,)), 3, benchmark="photos", name="n")
    assert alike(fast, encoder, right, right).reached is True
    assert alike(slow, encoder, right, right).reached is False
    wrong = alike(fast, encoder, right.flip(-1), right)
    assert (wrong.reached, wrong.aim) == (False, "3x, cosine >= 0.999")


def test_sides_take_turns_and_none_always_comes_second() -> None:
    order: list[str] = []

    def side(name: str, seconds: float) -> Any:
        def run() -> dict[str, float]:
            order.append(name)
            return {"items": 6, "seconds": seconds}

        return run

    rates = in_turns({"ours": side("ours", 2), "peer": side("peer", 3)}, rounds=2)
    assert order == ["ours", "peer", "ours", "peer", "peer", "ours"]
    assert rates == {"ours": Rates((3, 3)), "peer": Rates((2, 2))}


def test_a_ratio_is_one_of_medians_and_its_spread_that_of_rounds() -> None:
    row = versus(Rates((1, 9, 4)), Rates((2, 2, 4)), 2, benchmark="b", name="n")
    assert (row.ours, row.peer, row.ratio, row.reached) == (4, 2, 2, True)
    assert row.spread == (0.5, 4.5)
    assert versus(Rates((1,)), Rates((1,)), 2, benchmark="b", name="n").reached is False


def test_a_share_is_work_done_against_the_limit() -> None:
    row = share(Rates((10,)), Rates((100,)), 5, 0.8, benchmark="b", name="n")
    assert (row.ours, row.limit_share, row.reached) == (50, 0.5, False)


def test_a_benchmark_replaces_its_own_rows_and_no_others(tmp_path: Path) -> None:
    keep("one", [Row(benchmark="one", name="first", ours=1)], RUN, tmp_path)
    keep("two", [Row(benchmark="two", name="second", ours=2, ratio=2.5, aim="2x")], RUN, tmp_path)
    keep("one", [Row(benchmark="one", name="third", note="could not be had")], RUN, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["second", "third"]
    table = (tmp_path / "results.md").read_text()
    assert "| second | 2 |  | 2.50 |" in table
    assert "third: could not be had" in table
    assert "first" not in table


def test_a_peer_that_may_not_be_installed_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(PeerMissingError, match="vllm is not installed"):
        python_of("vllm", Settings(cache=tmp_path, install=False))


def test_a_missing_peer_is_a_row_that_says_so(tmp_path: Path) -> None:
    words = ["decoding-vllm", "tars-clip-retrieval", "--no-install"]
    assert run_benchmarks([*words, "--cache", str(tmp_path), "--out", str(tmp_path)]) == 0
    table = (tmp_path / "results.md").read_text()
    assert "vllm is not installed" in table
    assert "clip-retrieval is not installed" in table


def test_a_side_that_dies_is_told_with_its_last_words() -> None:
    spec = SideSpec(name="nobody", module="not_there", python=sys.executable)
    with pytest.raises(SideFailedError, match=r"nobody ended with 1: .*not_there"), Side(spec):
        pass


def test_a_side_computes_only_while_it_is_asked() -> None:
    """vLLM's engine spins while it waits, and would take a core from whoever is measured."""
    spec = SideSpec(name="limit", module="limit", setup={"size": 16, "copy_mib": 1})
    with Side(spec) as side:
        (process,) = [
            child for child in psutil.Process().children() if spec.module in child.cmdline()[-1]
        ]
        assert stops(process)
        assert side.run({"what": "float32", "least": 0.01})["items"] > 0
        assert stops(process)
    assert not process.is_running()


def stops(process: psutil.Process) -> bool:
    """Whether it is stopped within seconds: a signal takes its time."""
    end = time.monotonic() + 10
    while process.status() != psutil.STATUS_STOPPED and time.monotonic() < end:
        time.sleep(0.01)
    return process.status() == psutil.STATUS_STOPPED


def test_a_benchmark_that_is_run_writes_its_row(tmp_path: Path) -> None:
    """Processes, turns, memory and table in one."""
    words = ["reader", "--quick", "--rounds", "2", "--cache", str(tmp_path), "--out", str(tmp_path)]
    assert run_benchmarks(words) == 0
    (line,) = (tmp_path / "results.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row["ours"] > 0
    assert row["ratio"] == pytest.approx(row["ours"] / row["peer"])
    assert len(row["raw"]["ours"]) == len(row["raw"]["peer"]) == 2
    assert 20 < row["peak_mib"] < 4000
    assert "reader --rounds 2" in row["run"]["command"]


def test_tars_hold_photographs_with_captions(tmp_path: Path) -> None:
    (path,) = tars(tmp_path, 1, 2)
    with path.open("rb") as file:
        samples = list(TarReader(file, path.name))
    assert [sample.captions for sample in samples] == [("a picture of shapes",)] * 2
    header = inspect(samples[0].image or b"")
    assert (header.format, header.width, header.height) == ("JPEG", 500, 375)
    assert 40_000 < len(samples[0].image or b"") < 160_000  # as photographs of that size have
    assert samples[0].image != samples[1].image


def test_every_benchmark_is_there_and_documented() -> None:
    home = Path(__file__).parent.parent
    page = (home / "docs" / "performance.md").read_text(encoding="utf-8")
    for name in BENCHMARKS:
        assert (home / "benchmarks" / f"{name.replace('-', '_')}.py").exists()
        assert f"`{name}`" in page


def test_the_summary_for_machines_has_the_figures_of_each_row() -> None:
    row = Row(benchmark="b", name="n", ours=2.0, peer=1.0, ratio=2.0, limit_share=0.5)
    result = {"name": "n", "ours": 2.0, "peer": 1.0, "ratio": 2.0, "limit_share": 0.5}
    assert summary([row], ok=True) == {"command": "bench", "ok": True, "results": [result]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in BENCHMARKS if name not in ("decoding-vllm", "tars-clip-retrieval")]
)
def test_each_benchmark_works_at_tiny_sizes(name: str, tmp_path: Path) -> None:
    words = [name, "--quick", "--rounds", "1", "--cache", str(tmp_path), "--out", str(tmp_path)]
    assert run_benchmarks(words) == 0
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert all(row["ours"] is not None or row["note"] for row in rows)
