"""What `nightcap bench --quick` expects of a machine: sums that add up, and measured figures."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import DIM, tiny_encoder_folder, tiny_model
from torch import Tensor

from captioner.benching import Captioning, Embedding, Expectation, Rate, expect
from captioner.captions import Caption, unheard
from captioner.configs import EncoderSpec, Form
from captioner.decoding import Decoding, Greedy
from captioner.devices import Numerics, resolve_dtype
from captioner.encoders import load_encoder
from captioner.photographs import photograph
from flows.cli_bench import comparison
from flows.expectations import stages
from storage.errors import ConfigurationError
from tasks.options import CaptionOptions, ComputeOptions
from tasks.settings.caption import CAPTIONS_AT_ONCE

NIGHTCAP = [sys.executable, "-W", "ignore", "-c", "from flows.cli import main; main()"]
RATES = (Rate("decode", 100), Rate("embed", 50), Rate("caption", 25))


def bench(*words: object) -> subprocess.CompletedProcess[str]:
    command = [*NIGHTCAP, "bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_on_a_cpu_all_steps_add_up() -> None:
    found = Expectation(rates=RATES, tokens=10, overlapped=False)
    assert found.seconds_per_picture == pytest.approx(0.07)
    assert found.hours_per_million == pytest.approx(70_000 / 3600)
    assert found.bottleneck == "caption"


def test_beside_a_gpu_decoding_costs_time_only_where_it_is_the_slower() -> None:
    found = Expectation(rates=RATES, tokens=10, overlapped=True)
    assert found.seconds_per_picture == pytest.approx(0.06)


def test_every_step_of_a_model_is_measured(tmp_path: Path) -> None:
    encoder = load_encoder(tiny_encoder_folder(tmp_path / "encoder"), Form())
    numerics = Numerics(device="cpu", dtype="float32", batch_size=4, threads=1)
    seeing = Embedding(encoder, numerics)
    found = expect(seeing, Captioning(tiny_model(), encoder, numerics), seconds=0.05)
    assert [rate.name for rate in found.rates] == ["decode", "embed", "caption", "score"]
    assert all(rate.per_second > 0 for rate in found.rates)
    assert 0 < found.tokens <= 24
    unscored = expect(seeing, Captioning(tiny_model(), None, numerics), seconds=0.0)
    assert [rate.name for rate in unscored.rates] == ["decode", "embed", "caption"]


class Ready:
    """A captioner that has its captions at once, and remembers how many were asked for."""

    def __init__(self) -> None:
        self.encoder_spec = EncoderSpec(name="tiny", dim=DIM)
        self.decoding = Greedy(1)
        self.calls: list[int] = []

    def candidates(
        self,
        image_BC: Tensor,
        decoding: Decoding,
        ids: Sequence[str] | None = None,
        progress: Callable[[int], None] = unheard,
    ) -> list[list[Caption]]:
        """The same for all."""
        del decoding, ids, progress
        self.calls.append(len(image_BC))
        return [[Caption("a", (1,), 0.0)] for _ in image_BC]


def test_captions_are_measured_while_slots_refill(tmp_path: Path) -> None:
    """A run hands over a row group: a single batch would only drain."""
    encoder = load_encoder(tiny_encoder_folder(tmp_path / "encoder"), Form())
    numerics = Numerics(device="cpu", dtype="float32", batch_size=4, threads=1)
    seeing, model = Embedding(encoder, numerics), Ready()
    writing = Captioning(model, None, replace(numerics, batch_size=100))
    expect(seeing, writing, seconds=0.0)
    assert model.calls == [100, 200]
    expect(seeing, writing, seconds=0.2)
    first, *measured = model.calls[2:]
    assert first == 100
    assert all(200 < count <= 10_000 for count in measured)


@pytest.mark.parametrize("dtype", ["auto", "int8"])
def test_each_stage_is_measured_as_a_run_computes_it(dtype: str) -> None:
    """The encoder and the language model differ in width, so in precision and batch too."""
    compute = ComputeOptions(device="cpu", dtype=dtype, threads=1)
    seeing, writing = stages(CaptionOptions(compute=compute))
    width = 128  # of nano's language model
    assert writing.numerics == Numerics(
        device="cpu",
        dtype=resolve_dtype(dtype, "cpu", width),
        batch_size=CAPTIONS_AT_ONCE,
        threads=1,
    )
    assert seeing.numerics == Numerics(
        device="cpu",
        dtype=resolve_dtype("auto", "cpu", seeing.encoder.dim),
        batch_size=64,
        threads=1,
    )


def test_a_photograph_is_the_same_for_the_same_seed() -> None:
    assert photograph(64, 48, seed=3) == photograph(64, 48, seed=3) != photograph(64, 48, seed=4)


def test_the_command_tells_hours_and_cost() -> None:
    words = ("--quick", "--seconds", 0, "--threads", 1, "--batch-size", 4)
    done = bench(*words, "--price-per-hour", 2, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert [row["name"] for row in facts["results"]][:2] == [
        "decode pictures/s",
        "embed pictures/s",
    ]
    assert all(set(row) >= {"ours", "peer", "ratio", "limit_share"} for row in facts["results"])
    each = sum(1 / row["ours"] for row in facts["results"])
    assert facts["hours_per_million"] == pytest.approx(each * 1e6 / 3600)
    assert (facts["batch_size"], facts["encoder_batch_size"]) == (4, 4)
    assert facts["cost_per_million"] == pytest.approx(2 * facts["hours_per_million"])
    slowest = min(facts["results"], key=lambda row: row["ours"])
    assert slowest["name"] == f"{facts['bottleneck']} pictures/s"


def test_an_unknown_model_is_refused_in_one_sentence() -> None:
    done = bench("--quick", "--model", "nanno")
    assert done.returncode == 2
    assert "nanno" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_source_tree_the_comparison_says_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="source tree") as refused:
        comparison(tmp_path, [], as_json=False)
    assert "--quick" in str(refused.value)
    here = comparison(Path(__file__).parent.parent, ["reader"], as_json=True)
    assert here[1:] == ["-m", "benchmarks", "reader", "--json"]
