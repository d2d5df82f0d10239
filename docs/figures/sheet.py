"""Make captioned-scenes.png of a demo: `python docs/figures/sheet.py nightcap-demo`."""

import sys
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from storage import open_captions

COLUMNS, SIDE, TEXT, GAP = 4, 200, 92, 16


def sheet(out: Path, count: int = 8) -> Image.Image:
    """The first unseen scenes of the demo, each above its caption and score."""
    runs = sorted(path.name for path in (out / "root" / "captions").iterdir())
    table = open_captions(str(out / "root"), runs[-1], columns=["path", "caption", "clip_sim"])
    unseen = [row for row in table.read_all().to_pylist() if row["path"].startswith("unseen/")]
    rows = -(-count // COLUMNS)
    size = (COLUMNS * (SIDE + GAP) + GAP, rows * (SIDE + TEXT + GAP) + GAP)
    page = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for number, row in enumerate(unseen[:count]):
        left = GAP + number % COLUMNS * (SIDE + GAP)
        top = GAP + number // COLUMNS * (SIDE + TEXT + GAP)
        picture = Image.open(out / "pictures" / row["path"]).resize((SIDE, SIDE))
        page.paste(picture, (left, top))
        draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), outline="#999999")
        text = "\n".join(textwrap.wrap(f"{row['caption']} ({row['clip_sim']:.2f})", 32))
        draw.multiline_text((left, top + SIDE + 4), text, fill="#222222", font=font)
    return page


if __name__ == "__main__":
    target = Path(__file__).with_name("captioned-scenes.png")
    sheet(Path(sys.argv[1])).save(target, optimize=True)
    sys.stdout.write(f"{target}\n")
