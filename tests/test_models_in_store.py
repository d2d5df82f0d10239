"""Trained models under a root: published whole, found by name, fetched where the root is remote."""

from pathlib import Path

import pytest

from storage.errors import ConfigurationError, ShardError
from storage.layout import Root
from storage.models import (
    ModelName,
    discard,
    find_trained,
    model_folder,
    publish_model,
    trained_models,
)
from storage.urls import join, listing


@pytest.fixture
def root(root_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Root(root_url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "trained"
    (place / "lm").mkdir(parents=True)
    (place / "config.json").write_text("{}")
    (place / "lm" / "model.safetensors").write_bytes(b"weights")
    return place


def test_a_published_model_is_found_and_every_file_of_it_fetched(root: Root, folder: Path) -> None:
    publish_model(root, ModelName("mine", "0123abcd"), "f" * 64, folder, {"examples": 3})
    model = find_trained(root, "mine")
    assert model == ModelName("mine", "0123abcd") == find_trained(root, "mine@0123abcd")
    assert model is not None
    place = model_folder(root, model)
    assert (place / "lm" / "model.safetensors").read_bytes() == b"weights"
    assert trained_models(root) == [model]


def test_of_two_versions_one_must_be_named(root: Root, folder: Path) -> None:
    for version in ("00000001", "00000002"):
        publish_model(root, ModelName("mine", version), version, folder, {})
    with pytest.raises(ConfigurationError, match="mine@00000001, mine@00000002"):
        find_trained(root, "mine")
    assert find_trained(root, "mine@00000002") == ModelName("mine", "00000002")


def test_what_is_no_model_of_this_root_is_not_found(root: Root) -> None:
    assert find_trained(root, "other") is None
    assert find_trained(root, "some/folder") is None


def test_a_fetched_model_that_was_changed_is_refused(root: Root, folder: Path) -> None:
    from storage.commit import replace

    model = ModelName("mine", "0123abcd")
    publish_model(root, model, "f" * 64, folder, {})
    replace(join(root.model(*str(model).split("@")), "config.json"), b"[]")
    if "://" in root.url:
        with pytest.raises(ShardError, match=r"config\.json"):
            model_folder(root, model)


def test_checkpoints_are_gone_after_discarding(root: Root) -> None:
    from storage.commit import replace

    place = join(root.model("mine", "0123abcd"), "checkpoints")
    replace(join(place, "last.safetensors"), b"state")
    discard(place)
    assert not listing(place)
