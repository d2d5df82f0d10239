"""Equal facts, equal fingerprint, on every machine and day."""

import hashlib
import os
from pathlib import Path

import pytest

from storage.fingerprint import canonical, fingerprint, sha256_file


def test_a_fingerprint_knows_no_order_and_every_difference() -> None:
    assert fingerprint({"a": 1, "b": [1.5, "ä"]}) == fingerprint({"b": [1.5, "ä"], "a": 1})
    facts: list[dict[str, object]] = [
        {},
        {"a": 1},
        {"a": 1.0},
        {"a": "1"},
        {"a": True},
        {"a": None},
        {"a": [1]},
        {"b": 1},
        {"a": {"b": 1}},
    ]
    assert len({fingerprint(fact) for fact in facts}) == len(facts)


def test_a_fingerprint_is_the_same_on_every_machine_and_day() -> None:
    """A changed rule would make every old output look undone."""
    assert canonical({"b": "ä", "a": 0.1}) == '{"a":0.1,"b":"ä"}'.encode()
    known = hashlib.sha256('{"a":0.1,"b":"ä"}'.encode()).hexdigest()
    assert fingerprint({"b": "ä", "a": 0.1}) == known


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_say_has_no_fingerprint(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        fingerprint({"a": value})


def test_a_large_file_is_hashed_whole(tmp_path: Path) -> None:
    data = os.urandom(2_500_000)
    (tmp_path / "x").write_bytes(data)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()
