"""Take the pictures of `nightcap review` again, in a headless Chromium."""

import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent.parent / "tests")]

from browser import PHONE, WIDE, chromium, page_of  # noqa: E402
from reviewed_runs import lay_reviewed, served  # noqa: E402

from captioner.scenes import captions, sample  # noqa: E402


def main() -> None:
    """Four pictures: grid and single view, wide and on a phone, light and dark."""
    said = [captions(scene, n=5, seed=7) for scene in sample(16, 1)]
    texts: list[str | None] = [some[0] for some in said]
    texts[6] = None
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        root = lay_reviewed(Path(folder), texts, [some[1] for some in said])
        with served(root, "--reviewer", "ann") as (url, _):
            for name, scheme in (("wide", "light"), ("wide", "dark"), ("phone", "dark")):
                size = WIDE if name == "wide" else PHONE
                with page_of(browser, size, scheme) as page:
                    page.goto(url)
                    if scheme == "light":
                        _decide(page)
                    page.wait_for_load_state("networkidle")
                    _shoot(page, f"review-grid-{name}-{scheme}")
                    page.goto(f"{url}row?id=3")
                    page.wait_for_load_state("networkidle")
                    _shoot(page, f"review-row-{name}-{scheme}")


def _decide(page: object) -> None:
    """One decision of each kind, by keyboard."""
    keyboard = page.keyboard  # type: ignore[attr-defined]
    for key in ("j", "a", "x", "e"):
        keyboard.press(key)
    keyboard.type(", drawn by hand")
    keyboard.press("Control+Enter")
    page.get_by_text("edited by ann").wait_for()  # type: ignore[attr-defined]
    page.get_by_text("saved").wait_for()  # type: ignore[attr-defined]


def _shoot(page: object, name: str) -> None:
    path = HERE / f"{name}.png"
    page.screenshot(path=path)  # type: ignore[attr-defined]
    small = Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


if __name__ == "__main__":
    main()
