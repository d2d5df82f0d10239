"""Several captions a picture: a second encoder scores them, the best stands first."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from collections_of_pictures import draw_sizes, snapshot
from test_run import rows, run
from tiny_models import tiny_encoder_folder

from captioner.alignment import cosines
from captioner.captions import Caption
from captioner.encoders import load_encoder
from captioner.errors import ModelError
from captioner.fakes import SizeEncoder
from captioner.scoring import clip_similarities
from storage.captions import run_settings
from storage.errors import ConfigurationError
from storage.layout import open_root
from tasks.options import CaptionOptions, ComputeOptions, DecodeOptions
from tasks.units.candidates import Candidate, Tally, best_first, distinct

pytestmark = pytest.mark.usefixtures("prefect_api")


def candidate(text: str, logprob: float, score: float | None, other: float = 0.1) -> Candidate:
    return Candidate(Caption(text, (1, 2), logprob), score, other)


def test_the_best_score_wins_then_the_likelier_then_the_text() -> None:
    drawn = [
        candidate("c", -1.0, 0.3),
        candidate("b", -2.0, 0.5),
        candidate("z", -1.0, 0.5),
        candidate("a", -1.0, 0.5),
        candidate("never", float("-inf"), 0.9),
    ]
    assert [one.caption.text for one in best_first(drawn)] == ["a", "z", "b", "c"]
    unscored = [candidate("c", -3.0, None), candidate("b", -2.0, 0.1), candidate("a", -2.5, None)]
    assert [one.caption.text for one in best_first(unscored)] == ["b", "a", "c"]
    assert best_first([]) == []


def test_of_equal_texts_the_first_draw_is_kept() -> None:
    drawn = [Caption(text, (), 0.0, seed) for seed, text in enumerate(["b", "a", "b", "a"])]
    assert [(one.text, one.seed) for one in distinct(drawn)] == [("b", 0), ("a", 1)]


def test_the_tally_tells_gain_margin_and_cut_captions() -> None:
    tally = Tally()
    cut = Candidate(Caption("cut", (1,), -1.0, stopped=False), 0.5, 0.2)
    tally.add([candidate("a", -1.0, 0.3), cut], [cut, candidate("a", -1.0, 0.3)])
    tally.add([candidate("b", -1.0, 0.4)], [candidate("b", -1.0, 0.4)])
    tally.add([candidate("c", -1.0, None)], [candidate("c", -1.0, None)])
    tally.add([], [])
    facts = tally.facts()["quality"]
    assert (facts["rows"], facts["unstopped"], facts["candidates"]) == (3, 1, 4)
    assert facts["best"] - facts["first"] == pytest.approx(0.2)
    assert facts["margin"] == pytest.approx(0.3 + 0.3)


def test_cosines_are_those_of_texts_with_own_and_next_pictures() -> None:
    encoder = SizeEncoder()
    image_NC = torch.tensor([[0.0, 30, 0, 40, 1], [0, 200, 0, 5, 1], [1, 9, 0, 77, 1]])
    texts = ["30 by 40", "7 by 9", "200 by 5", "265 by 77"]
    owner = [0, 0, 1, 2]
    found = cosines(encoder, texts, image_NC, owner, batch_size=3)
    assert found.own == pytest.approx(clip_similarities(encoder, texts, image_NC[owner]))
    expected = clip_similarities(encoder, texts, image_NC[[1, 1, 2, 0]])
    assert found.other == pytest.approx(expected)
    with pytest.raises(ModelError, match="4 texts need as many owners"):
        cosines(encoder, texts, image_NC, [0, 1])


def options(tower: Path | str, **changed: Any) -> CaptionOptions:
    compute = ComputeOptions(threads=1)
    return CaptionOptions(model="size", rerank=str(tower), compute=compute, **changed)


def test_a_second_encoder_scores_what_the_first_wrote(tmp_path: Path) -> None:
    truths = draw_sizes(tmp_path / "pictures", 9)
    (tmp_path / "pictures" / "broken.png").write_text("no picture")
    tower = tiny_encoder_folder(tmp_path / "tower", context=40)
    root = str(tmp_path / "root")
    summary = run(tmp_path / "pictures", root, captions=options(tower))
    assert [stage.name for stage in summary.stages] == ["shard", "embed", "embed", "caption"]
    found = rows(root, summary.run)
    said = {row["path"]: row["caption"] for row in found if row["status"] == "ok"}
    assert said == truths
    encoder = load_encoder(tower, device="cpu", dtype="float32")
    settings = run_settings(open_root(root)).read(summary.run)
    assert settings
    assert settings.resolved["scorer"] == encoder.name
    expected = seen_by(encoder, tmp_path / "pictures", said)
    scores = {row["path"]: row["clip_sim"] for row in found if row["status"] == "ok"}
    assert scores == pytest.approx(expected, abs=1e-3)
    before = snapshot(Path(root))
    again = run(tmp_path / "pictures", root, captions=options(tower))
    assert snapshot(Path(root)) == before
    assert again.stages[-1].rows == 0
    from flows.status import status

    assert status(root)["ok"]


def seen_by(encoder: Any, pictures: Path, said: dict[str, str]) -> dict[str, float]:
    from PIL import Image

    opened = [Image.open(pictures / path).convert("RGB") for path in said]
    pixels = torch.stack([encoder.preprocess(picture) for picture in opened])
    image_NC = encoder.encode_images(pixels)
    return dict(zip(said, clip_similarities(encoder, list(said.values()), image_NC), strict=True))


def test_another_scorer_is_another_run_and_the_same_one_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draw_sizes(tmp_path / "pictures", 4)
    root = str(tmp_path / "root")
    plain = run(tmp_path / "pictures", root)
    with caplog.at_level(logging.WARNING):
        same = run(tmp_path / "pictures", root, captions=options("size"))
    assert sum("re-ranked by 'size', the encoder that they" in one for one in caplog.messages) == 1
    assert same.run != plain.run
    scores = [[row["clip_sim"] for row in rows(root, one.run)] for one in (plain, same)]
    assert scores[0] == scores[1]


def test_only_the_best_are_kept_where_so_many_are_asked_for(tmp_path: Path) -> None:
    from captioner import scenes

    (tmp_path / "pictures").mkdir()
    for at, scene in enumerate(scenes.sample(3, 3)):
        scenes.draw(scene, size=64, seed=at).save(tmp_path / "pictures" / f"{at}.png")
    decode = DecodeOptions(name="top-p", samples=6)
    compute = ComputeOptions(threads=1)
    every = CaptionOptions(model="nano", decode=decode, run="every", compute=compute)
    few = CaptionOptions(model="nano", decode=decode, run="few", keep=2, compute=compute)
    root = str(tmp_path / "root")
    for one in (every, few):
        assert run(tmp_path / "pictures", root, captions=one).ok
    for whole, cut in zip(rows(root, "every"), rows(root, "few"), strict=True):
        assert cut["captions"] == whole["captions"][:2]
        assert cut["caption"] == whole["caption"]


def test_what_cannot_re_rank_is_refused_before_any_work(tmp_path: Path) -> None:
    from flows.commands import caption_command, run_command
    from tasks.ingest import IngestOptions
    from tasks.options import LaneOptions

    draw_sizes(tmp_path / "pictures", 2)
    root, here = str(tmp_path / "root"), LaneOptions(lanes=0)
    with pytest.raises(ConfigurationError, match="leave --no-score out"):
        run_command(
            str(tmp_path / "pictures"), root, options("size", score=False), IngestOptions(), here
        )
    with pytest.raises(ConfigurationError, match="stored embeddings come without"):
        caption_command(root, options("size", embeddings=str(tmp_path)), here)
    with pytest.raises(ModelError, match="There is no encoder 'nanoo'"):
        run_command(str(tmp_path / "pictures"), root, options("nanoo"), IngestOptions(), here)
    assert not (tmp_path / "root").exists()
    run(tmp_path / "pictures", root)
    with pytest.raises(ConfigurationError, match="embedded with 'nano': run nightcap embed"):
        caption_command(root, options("nano"), here)
