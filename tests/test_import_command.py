"""`nightcap import` as a user meets it, from a file and from a hub."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from foreign_checkpoints import D, P, language_folder, state_of
from hub_server import COMMIT
from typer.testing import CliRunner

from flows.cli import app


def imported(*words: object) -> list[str]:
    """The lines that an import ends with."""
    done = CliRunner().invoke(app, ["import", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(state_of("clipcap-transformer", old=True), tmp_path / "weights.pt")
    language_folder(tmp_path / "tiny-gpt2")
    return tmp_path / "weights.pt"


def test_the_command_says_what_it_assumed_and_how_to_change_it(checkpoint: Path) -> None:
    folder, lm = checkpoint.parent, checkpoint.parent / "tiny-gpt2"
    said = imported(checkpoint, folder / "model", "--lm", lm)
    assert said[0].endswith("model: clipcap-transformer, beside tiny-gpt2")
    assert said[1].endswith("24 wide, of length 1 (assumed; --not-normalized changes it)")
    assert "set aside: 4 tensors, causal mask buffers" in said
    told = json.loads(
        imported(checkpoint, folder / "other", "--lm", lm, "--not-normalized", "--json")[-1]
    )
    assert (told["normalized"], told["assumed_normalized"]) == (False, False)
    assert (told["ok"], told["dim"], told["feature"]) == (True, 24, "projected")
    config = json.loads((folder / "other" / "config.json").read_text())
    assert config["encoder"]["normalized"] is False


def test_without_an_encoder_the_published_one_is_suggested_and_not_taken(tmp_path: Path) -> None:
    state = state_of("clipcap-mlp")
    state["clip_project.model.0.weight"] = torch.randn(P * D // 2, 640)
    torch.save(state, tmp_path / "weights.pt")
    lm = language_folder(tmp_path / "tiny-gpt2")
    said = imported(tmp_path / "weights.pt", tmp_path / "model", "--lm", lm)
    assert any(line.endswith("go with --encoder RN50x4/openai") for line in said)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["encoder"]["name"] == ""


def test_a_refusal_is_one_sentence_and_exit_code_2(checkpoint: Path) -> None:
    words = ["import", str(checkpoint), str(checkpoint.parent / "model"), "--json"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "from flows.cli import main; main()", *words],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--lm" in json.loads(done.stdout.splitlines()[-1])["error"]
    assert not (checkpoint.parent / "model").exists()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment of a process whose hub is a folder on this machine."""
    (tmp_path / "hub" / "someone").mkdir(parents=True)
    language_folder(tmp_path / "hub" / "someone" / "tiny-gpt2", weights=True)
    checkpoints = tmp_path / "hub" / "someone" / "captions" / "runs"
    checkpoints.mkdir(parents=True)
    torch.save(state_of("clipcap-reimplemented"), checkpoints / "best.pt")
    mapper = {k: v for k, v in state_of("clipcap-mlp").items() if not k.startswith("gpt.")}
    torch.save(mapper, checkpoints / "mapper.pt")
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("hub_server.py")), str(tmp_path / "hub")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdin
        assert server.stdout
        yield {
            "HF_ENDPOINT": f"http://127.0.0.1:{int(server.stdout.readline())}",
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
        server.stdin.close()
        server.wait(timeout=20)


SEVERAL_IMPORTS = """
import json, sys
from pathlib import Path
from captioner.errors import ModelError
from captioner.importing.convert import ImportOptions, import_checkpoint

said = []
for source, name, offline in json.loads(sys.argv[1]):
    options = ImportOptions(lm="someone/tiny-gpt2", offline=offline)
    try:
        said.append(import_checkpoint(source, Path(name), options).notes)
    except ModelError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def test_a_checkpoint_is_fetched_from_a_hub_and_its_commit_recorded(
    hub: dict[str, str], tmp_path: Path
) -> None:
    """In a process of its own: the library reads the hub's address when it is imported."""
    best, none = "hf://someone/captions/runs/best.pt", "hf://someone/captions/none.pt"
    imports = [
        (f"{best}@main", "online", False),
        (best, "offline", True),
        ("hf://someone/captions/runs/mapper.pt", "mapper", False),
        (none, "none", False),
        ("hf://nobody/captions/best.pt", "none", False),
        (none, "none", True),
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SEVERAL_IMPORTS, json.dumps(imports)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), **hub},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    online, offline, mapper, *refused = json.loads(done.stdout)
    assert online["checkpoint"]["file"] == "runs/best.pt"
    assert online["checkpoint"]["repository"] == "someone/captions"
    assert online["checkpoint"]["revision"] == online["language_model"]["revision"] == COMMIT
    assert offline == online, "what was fetched before is at hand offline"
    assert mapper["language_model"]["weights"] == "its own"
    assert (tmp_path / "mapper" / "lm" / "model.safetensors").stat().st_size > 100_000
    assert [sentence.partition(",")[0] for sentence in refused] == [
        f"The hub has no '{none}'",
        "The hub has no 'hf://nobody/captions/best.pt'",
        f"'{none}' is not in the local cache and may not be fetched offline.",
    ]
    assert not (tmp_path / "none").exists()
