"""Every command and every line of Python that the documentation shows is run."""

import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from collections_of_pictures import draw_sizes
from foreign_checkpoints import language_folder, stand_ins

REPOSITORY = Path(__file__).parent.parent
PAGES = [
    "README.md",
    "docs/captioning.md",
    "docs/importing.md",
    "docs/reading.md",
    "docs/training.md",
]
FENCE = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NIGHTCAP = [sys.executable, "-W", "ignore", "-c", "from flows.cli import main; main()"]


def blocks(page: str) -> list[tuple[str, str]]:
    return FENCE.findall((REPOSITORY / page).read_text(encoding="utf-8"))


def words(block: str) -> list[list[str]]:
    """The commands of a shell block, lines continued by a backslash joined."""
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("nightcap")]


def run(command: list[str], folder: Path) -> None:
    from prefect.settings import PREFECT_API_URL

    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, prefect_api: None) -> Path:
    """A folder as the pages assume it: pictures with captions, foreign files, earlier results."""
    folder = tmp_path_factory.mktemp("desk")
    for path in draw_sizes(folder / "pictures", 24):
        place = folder / "pictures" / path
        place.with_suffix(".txt").write_text(f"a plain square, number {place.stem}\n")
    (folder / "openai-community").mkdir()
    for name in ("gpt2", "gpt2-medium", "gpt2-xl"):
        language_folder(folder / "openai-community" / name)
    for file, content in stand_ins().items():
        torch.save(content, folder / file)
    embeddings = {
        "clip_embedding": torch.randn(2, 512),
        "captions": [{"image_id": "9", "caption": "a dog", "clip_embedding": 1}],
    }
    (folder / "oscar_split_ViT-B_32_train.pkl").write_bytes(pickle.dumps(embeddings))
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_works(page: str, desk: Path) -> None:
    shown = blocks(page)
    assert shown
    for language, block in shown:
        if language == "python":
            run([sys.executable, "-W", "ignore", "-c", block], desk)
        else:
            for command in words(block):
                run([*NIGHTCAP, *command[1:]], desk)


def test_every_page_that_is_linked_is_there() -> None:
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_every_command_is_documented() -> None:
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    from flows.cli import app

    commands = [command for command in app.registered_commands if command.callback]
    names = [command.name or command.callback.__name__ for command in commands]
    assert len(names) >= 9
    assert [name for name in names if f"nightcap {name}" not in text] == []
