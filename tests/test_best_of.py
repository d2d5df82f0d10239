"""The benchmark of best-of-n, on few scenes and with a scorer that knows nothing."""

import json
import sys
from pathlib import Path

import pytest
from tiny_models import tiny_encoder_folder

from benchmarks import best_of


@pytest.mark.slow
def test_more_draws_never_score_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The draws of a small number are the first of a larger, so that the best can only rise."""
    tower = tiny_encoder_folder(tmp_path / "tower", context=40)
    monkeypatch.setattr(sys, "argv", ["best_of", str(tower), "--scenes", "6"])
    assert best_of.main() == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    assert [row["captions"] for row in rows][1:] == [f"best of {n}" for n in (1, 5, 20, 40)]
    scores = [row["cosine"] for row in rows[1:]]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]
    assert all(0 <= row["attribute_true"] <= 1 for row in rows)
