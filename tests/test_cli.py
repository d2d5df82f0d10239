"""The command line as a user meets it: quick help, one sentence for a mistake, JSON at the end."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from collections_of_pictures import draw_sizes, snapshot
from PIL import Image
from stored_sets import lay_set, sizes

NIGHTCAP = [sys.executable, "-c", "from flows.cli import main; main()"]


def nightcap(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NIGHTCAP, *map(str, words)], capture_output=True, text=True, timeout=280, check=False
    )


def refused(*words: object) -> str:
    """The one sentence with which a mistake of the user is refused."""
    done = nightcap(*words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    draw_sizes(tmp_path / "pictures", 3)
    return tmp_path / "pictures"


def test_help_needs_none_of_the_heavy_libraries() -> None:
    heavy = ["torch", "prefect", "transformers", "pyarrow", "duckdb", "open_clip"]
    code = (
        "import sys; from flows.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("run", "shard", "embed", "train", "caption", "status", "doctor", "models"):
        assert command in done.stdout


def test_help_answers_at_once() -> None:
    nightcap("--help")
    began = time.perf_counter()
    nightcap("--help")
    assert time.perf_counter() - began < 5  # 0.2 s on a quiet machine; a library would cost more


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere" in refused("run", tmp_path / "nowhere", tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("run", tmp_path / "empty", tmp_path / "root")


def test_a_folder_without_pictures_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "one.mp4").touch()
    assert ".mp4" in refused("run", tmp_path / "films", tmp_path / "root")


def test_an_unknown_model_names_what_comes_near(pictures: Path, tmp_path: Path) -> None:
    assert "nano" in refused("run", pictures, tmp_path / "root", "--model", "nanno")


def test_an_unknown_encoder_names_what_comes_near(pictures: Path, tmp_path: Path) -> None:
    assert "ViT-B-32" in refused("embed", tmp_path / "root", "--encoder", "ViT-B-23")


def test_a_root_that_holds_something_else_is_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "letter.doc").touch()
    assert "letter.doc" in refused("run", pictures, tmp_path / "root")


def test_a_root_that_cannot_be_written_is_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sentence = refused("run", pictures, tmp_path / "file" / "root", "--model", "size")
    assert "file" in sentence


def test_captions_without_embeddings_say_what_to_run_first(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    assert "nightcap embed" in refused("caption", tmp_path / "root", "--model", "size")


def test_a_split_is_asked_of_the_source(pictures: Path, tmp_path: Path) -> None:
    image = {"filename": "part-0/00000.png", "split": "train", "sentences": []}
    (pictures / "dataset.json").write_text(json.dumps({"images": [image]}))
    words = ("shard", pictures / "dataset.json", tmp_path / "root", "--split")
    assert "choose --split among train (1)" in refused(*words, " train, dev")
    assert "no splits" in refused("run", pictures, tmp_path / "root", "--split", "train")
    assert not (tmp_path / "root").exists()


def test_stored_embeddings_that_do_not_fit_are_refused_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    folder = lay_set(f"{tmp_path}/set", "0", sizes((1, 2)), {"caption": ["x"]})
    given = (tmp_path / "root", "--embeddings", folder)
    assert "width 256" in refused("caption", *given, "--model", "nano")
    scaled = ("--model", "size", "--embedding-scale", "2")
    assert "--embedding-scale 2" in refused("caption", *given, *scaled)
    assert "nowhere" in refused("caption", tmp_path / "root", "--embeddings", tmp_path / "nowhere")
    assert not (tmp_path / "root").exists()


def test_a_mistake_is_json_for_machines(tmp_path: Path) -> None:
    done = nightcap("run", tmp_path / "nowhere", tmp_path / "root", "--json")
    said = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, said["command"], said["ok"]) == (2, "run", False)
    assert "nowhere" in said["error"]


def test_models_lists_presets_recipes_and_encoders() -> None:
    found = json.loads(nightcap("models", "--json").stdout)
    assert {"nano", "size"} <= found["presets"].keys()
    assert {"nano", "nano-scratch"} <= found["recipes"].keys()
    assert {"nano", "ViT-B-32", "ViT-L-14"} <= set(found["encoders"])


def test_doctor_names_what_this_machine_computes_with() -> None:
    found = json.loads(nightcap("doctor", "--json").stdout)
    assert found["findings"]["compute"].startswith(("cpu", "cuda", "mps"))
    assert "fastapi" in found["findings"]


def test_a_prefect_server_that_does_not_answer_is_named_without_its_password(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://me:secret@127.0.0.1:9/api")
    sentence = refused("run", pictures, tmp_path / "root", "--model", "size")
    assert "no Prefect server answers at http://127.0.0.1:9/api" in sentence
    told = nightcap("doctor", "--json").stdout
    assert "server http://127.0.0.1:9/api" in told
    assert "secret" not in told


def test_a_run_ends_with_one_json_object_and_a_second_needs_no_server(
    pictures: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(pictures / "good.png")
    (pictures / "bad.jpg").write_bytes(b"")
    words = ("run", pictures, tmp_path / "root", "--model", "size", "--json")
    first = json.loads(nightcap(*words).stdout.splitlines()[-1])
    assert (first["ok"], first["rows"], first["captioned"], first["failed"]) == (True, 5, 4, 1)
    assert first["failures"] == {"empty": 1}
    assert [stage["name"] for stage in first["stages"]] == ["shard", "embed", "caption"]
    before = snapshot(tmp_path / "root")
    second = json.loads(nightcap(*words).stdout.splitlines()[-1])
    assert (second["ok"], second["rows"], second["skipped"]) == (True, 0, 5)
    assert snapshot(tmp_path / "root") == before
    standing = json.loads(nightcap("status", tmp_path / "root", "--json").stdout)
    assert standing["ok"]
    assert [line["done"] for line in standing["stages"]] == [1, 1, 1]


def test_every_command_explains_itself() -> None:
    from typer.testing import CliRunner

    from flows.cli import app

    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        shown = CliRunner().invoke(app, [name, "--help"])
        assert shown.exit_code == 0, name
        assert "Usage" in shown.output
        if name in ("embed", "train"):
            assert "NAME[/PRETRAINED]" in " ".join(shown.output.split())
