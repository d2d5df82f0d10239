"""The weekly training publishes a model unless it is worse on what its training held out."""

from typing import Any

import pytest

from captioner import scenes
from storage.errors import ConfigurationError
from storage.layout import open_root
from storage.models import model_settings, newest_versions, trained_models, versions
from tasks.options import ComputeOptions, EmbedOptions, LaneOptions, TrainOptions

pytestmark = pytest.mark.usefixtures("prefect_api")
HERE = LaneOptions(lanes=0)
THREAD = ComputeOptions(threads=1)
EMBEDDED = EmbedOptions(compute=THREAD)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, prefect_api: None) -> str:
    """40 drawn scenes with their captions, cut."""
    from flows.shard import shard

    folder = tmp_path_factory.mktemp("weekly")
    pictures = folder / "pictures"
    pictures.mkdir()
    for at, scene in enumerate(scenes.sample(40, 3)):
        scenes.draw(scene, size=64, seed=at).save(pictures / f"{at}.png")
        (pictures / f"{at}.txt").write_text(scenes.captions(scene)[0])
    url = str(folder / "root")
    shard(str(pictures), url, lanes=HERE, return_state=True)
    return url


def train(root: str, **options: Any) -> dict[str, Any]:
    from flows.stage import outcome
    from flows.weekly import train_weekly

    chosen = TrainOptions(recipe="nano", out="weekly", compute=THREAD, **options)
    flow = train_weekly.with_options(retries=0)
    return outcome(flow(root, chosen, EMBEDDED, HERE, return_state=True)).facts


def test_a_model_is_published_unless_it_is_worse(root: str) -> None:
    place = open_root(root)
    first = train(root, steps=6)
    assert first["published"]
    (standing,) = newest_versions(place, "weekly")
    assert first["model"] == str(standing)

    spoilt = train(root, steps=3, settings=("learning_rate=3.0",))
    assert not spoilt["published"]
    assert spoilt["model"] == str(standing)
    losses = list(spoilt["held_out_losses"].values())
    assert losses[0] > losses[1]
    assert list(versions(place, "weekly")) == [standing.version]

    better = train(root, steps=40)
    assert better["published"]
    losses = list(better["held_out_losses"].values())
    assert losses[0] <= losses[1]
    (newest,) = newest_versions(place, "weekly")
    assert better["model"] == str(newest) != str(standing)
    assert len([model for model in trained_models(place) if model.name == "weekly"]) == 2

    again = train(root, steps=40)
    assert (again["model"], again["published"]) == (better["model"], False)


def test_a_training_embeds_with_the_encoder_of_its_recipe_where_none_is_named(root: str) -> None:
    """The default of the flow was the encoder `nano`, whatever the recipe learns from."""
    from flows.stage import outcome
    from flows.weekly import train_weekly

    options = TrainOptions(
        recipe="nano-scratch", encoder="size", out="sized", steps=2, compute=THREAD
    )
    flow = train_weekly.with_options(retries=0)
    summary = outcome(flow(root, options, lanes=HERE, return_state=True))
    assert summary.facts["published"]
    (newest,) = newest_versions(open_root(root), "sized")
    settled = model_settings(open_root(root), "sized").read(newest.version)
    assert settled
    assert settled.resolved["space"].startswith("size-")


def test_a_published_model_writes_captions(root: str) -> None:
    from flows.caption import caption
    from flows.stage import outcome
    from tasks.options import CaptionOptions

    train(root, steps=6)  # published, unless a better one is
    (newest,) = newest_versions(open_root(root), "weekly")
    options = CaptionOptions(model=str(newest), compute=THREAD)
    state = caption(root, options, EMBEDDED, HERE, return_state=True)
    assert outcome(state).totals["captioned"] == 40


def test_a_night_captions_with_no_model_that_is_not_pinned(root: str) -> None:
    from flows.nightly import check_pinned

    train(root, steps=6)
    place = open_root(root)
    with pytest.raises(ConfigurationError, match="weekly@"):
        check_pinned(place, "weekly")
    check_pinned(place, str(newest_versions(place, "weekly")[0]))
    check_pinned(place, "nano")
