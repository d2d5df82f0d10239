"""Make report-*.png of a page: `PYTHONPATH=tests python docs/figures/report.py report.html`."""

import sys
from io import BytesIO
from pathlib import Path

from browser import PHONE, WIDE, chromium, page_of
from PIL import Image

SHOTS = (
    ("report-wide-light", WIDE, "light", "#summary"),
    ("report-wide-dark", WIDE, "dark", "#numbers"),
    ("report-phone-light", PHONE, "light", "#worst"),
    ("report-phone-dark", PHONE, "dark", "#summary"),
)


def shoot(page: Path) -> None:
    """Four views, in few colours, so that they stay small."""
    with chromium() as browser:
        for name, size, scheme, place in SHOTS:
            with page_of(browser, size, scheme) as window:
                window.goto(page.resolve().as_uri())
                if place != "#summary":
                    window.evaluate(f"document.querySelector('{place}').scrollIntoView()")
                picture = Image.open(BytesIO(window.screenshot()))
                few = picture.convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE)
                few.save(Path(__file__).with_name(f"{name}.png"), optimize=True)


if __name__ == "__main__":
    shoot(Path(sys.argv[1]))
