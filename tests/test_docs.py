"""Every command and every line of Python that the documentation shows is run."""

import json
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
SEVERAL = [
    *("docs/embeddings.md", "docs/exporting.md", "docs/importing.md", "docs/keeping.md"),
    *("docs/nightly.md", "docs/quality.md", "docs/recipes.md", "docs/report.md"),
    "docs/reviewing.md",
]
PAGES = [
    *("README.md", "docs/captioning.md", "docs/reading.md", "docs/training.md"),
    *("docs/decoding.md", "docs/curating.md", "docs/performance.md"),
    *(
        pytest.param(page, marks=pytest.mark.slow)  # many commands, each a process of its own
        for page in SEVERAL
    ),
]
GOES_ON = {"docs/reading.md", "docs/training.md", "docs/decoding.md", "docs/curating.md"}
"""Pages that take what `docs/captioning.md` made as given, which another process may have done."""
STAND_INS = {
    "ViT-B-32/openai": "nano",
    "RN50x4/openai": "nano",
}
"""Encoders whose weights no test may fetch, and who stands in for them."""
TOY = ["--encoder", "nano", "--lm", "nano", "--steps", "4", "--set", "max_caption_tokens=20"]
"""What makes a published recipe short enough for a test, and free of downloads."""
FENCE = re.compile(r"^```(sh|python|yaml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NIGHTCAP = [sys.executable, "-W", "ignore", "-c", "from flows.cli import main; main()"]


def blocks(page: str) -> list[tuple[str, str]]:
    return FENCE.findall((REPOSITORY / page).read_text(encoding="utf-8"))


def words(block: str) -> list[list[str]]:
    """The commands of a shell block, lines continued by a backslash joined."""
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("nightcap")]


def rehearsed(command: list[str]) -> list[str]:
    """The command with stand-ins for what would be fetched, and few steps."""
    if command[1] == "import":  # fetches nothing, and reads off the name how wide an encoder is
        return command
    command = [STAND_INS.get(word, word) for word in command]
    published = any(word.startswith(("clipcap", "clipxgpt")) for word in command)
    if command[1] == "train" and published and "--lm" not in command:
        return [*command, *TOY]
    return command


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
    draw_coco(folder)
    draw_flickr(folder)
    save_foreign(folder)
    return folder


def save_foreign(folder: Path) -> None:
    """Other projects' checkpoints and embeddings, small, and the language models beside them."""
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


def draw_coco(folder: Path, count: int = 12) -> None:
    """COCO's captions and pictures: annotations in an order of their own, ids of twelve digits."""
    names = draw_sizes(folder / "train2014", count)
    images = [{"id": 9 * at, "file_name": name} for at, name in enumerate(names)]
    annotations = [
        {"id": k * count + at, "image_id": 9 * at, "caption": f"a square, seen {k} times."}
        for k in range(5)
        for at in range(count)
    ]
    (folder / "annotations").mkdir()
    content = json.dumps({"info": {}, "images": images, "annotations": annotations})
    (folder / "annotations" / "captions_train2014.json").write_text(content)


def draw_flickr(folder: Path, count: int = 12) -> None:
    """Flickr30k's table: a bar and a space between columns, five rows a picture."""
    names = draw_sizes(folder / "flickr30k_images", count)
    rows = [f"{name}| {k}| A square number {k} ." for name in names for k in range(5)]
    text = "\n".join(["image_name| comment_number| comment", *rows, ""])
    (folder / "results.csv").write_text(text)


@pytest.fixture(scope="module")
def followed() -> set[str]:
    """The pages whose commands were run at this desk."""
    return set()


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_works(page: str, desk: Path, followed: set[str]) -> None:
    if page in GOES_ON and "docs/captioning.md" not in followed:
        follow("docs/captioning.md", desk)
        followed.add("docs/captioning.md")
    follow(page, desk)
    followed.add(page)


def follow(page: str, desk: Path) -> None:
    """Run what a page shows."""
    shown = blocks(page)
    assert shown
    for language, block in shown:
        if language == "python":
            run([sys.executable, "-W", "ignore", "-c", block], desk)
        elif language == "yaml":  # its first line is its name
            (desk / block.splitlines()[0].removeprefix("# ")).write_text(block)
        else:
            for command in words(block):
                run([*NIGHTCAP, *rehearsed(command)[1:]], desk)


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
