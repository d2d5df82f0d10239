"""Which device `auto` means, and which a caption cannot be written on."""

import pytest
import torch

from captioner import devices
from captioner.devices import resolve_device
from captioner.errors import ModelError
from captioner.model import load_model


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with MPS alone, as far as torch and Python say."""
    monkeypatch.setattr(devices.sys, "platform", "darwin")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


@pytest.mark.usefixtures("apple")
def test_mps_is_used_only_where_it_is_asked_for() -> None:
    """It has no float64, in which the log-probabilities of a caption are summed."""
    assert resolve_device("auto") == "cpu"
    assert resolve_device("mps") == "mps"


@pytest.mark.usefixtures("apple")
def test_captions_on_mps_are_refused_before_any_work() -> None:
    with pytest.raises(ModelError, match="MPS has no float64"):
        load_model("nano", device="mps")
