"""Precision of a training: chosen by hardware and width, recorded, and left to whoever asks."""

import json
import sys
from pathlib import Path

import pytest
from test_training import RECIPE, examples, fresh, pictures, whole_training
from tiny_models import tiny_model

from captioner.ahead import made_ahead
from captioner.checkpoints import MemoryCheckpoints
from captioner.precision import LEAST_WIDTH, fitting, precise, training_dtype
from captioner.recipes import FAITHFUL, RECIPES, find_recipe
from captioner.training import train
from storage.errors import ConfigurationError
from tasks.options import ComputeOptions, TrainOptions
from tasks.settings.train import chosen_recipe


def test_a_narrow_model_computes_in_float32_wherever_it_is() -> None:
    assert fitting(LEAST_WIDTH - 1, "bfloat16") == "float32"
    assert fitting(LEAST_WIDTH, "bfloat16") == "bfloat16"
    assert fitting(768, "float16") == "float16"
    assert precise(RECIPE, tiny_model(), "bfloat16").precision == "float32"
    assert precise(RECIPE, tiny_model(width=256), "bfloat16").precision == "bfloat16"


def test_what_is_asked_for_is_left_as_it_is() -> None:
    asked = RECIPE.changed({"precision": "float16"})
    assert precise(asked, tiny_model(), "bfloat16") is asked


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_bfloat16_is_for_a_cpu_that_multiplies_it() -> None:
    words = set(Path("/proc/cpuinfo").read_text().split())
    made_for_it = "amx_bf16" in words or {"avx512_bf16", "AuthenticAMD"} <= words
    assert training_dtype("cpu") == ("bfloat16" if made_for_it else "float32")


def test_a_training_says_what_it_computed_in(tmp_path: Path) -> None:
    made = examples(tmp_path / "examples", pictures(20))
    _, result = whole_training(made)
    assert result.precision == "float32"
    assert json.loads(json.dumps(result.to_json()))["precision"] == "float32"
    recipe = RECIPE.changed({"precision": "bfloat16"})
    assert train(fresh(), made, recipe, checkpoints=MemoryCheckpoints()).precision == "bfloat16"


def test_every_recipe_leaves_precision_to_the_machine_and_takes_another() -> None:
    assert {recipe.precision for recipe in RECIPES.values()} == {"auto"}
    assert {find_recipe(name, faithful=True).precision for name in FAITHFUL} == {"auto"}
    plain = TrainOptions(recipe="clipcap", compute=ComputeOptions(dtype="float32"))
    assert chosen_recipe(plain).precision == "float32"
    twice = TrainOptions(settings=("precision=bfloat16",), compute=ComputeOptions(dtype="float32"))
    with pytest.raises(ConfigurationError, match="--dtype and --set precision"):
        chosen_recipe(twice)


def test_things_made_ahead_come_in_order_one_in_hand() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return 10 * number

    coming = made_ahead(make, range(100))
    assert [next(coming) for _ in range(3)] == [0, 10, 20]
    coming.close()
    assert made in ([0, 1, 2], [0, 1, 2, 3])
    assert list(made_ahead(make, [])) == []


def test_what_fails_ahead_fails_where_it_is_asked_for() -> None:
    def make(number: int) -> int:
        return 12 // (2 - number)

    coming = made_ahead(make, range(5))
    assert [next(coming), next(coming)] == [6, 12]
    with pytest.raises(ZeroDivisionError):
        next(coming)
