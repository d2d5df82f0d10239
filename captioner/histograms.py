"""A histogram as an SVG that takes its colours from the reader's scheme, light or dark."""

import re
from collections.abc import Sequence
from io import StringIO
from typing import Any

_INK, _BAR, _GRID = "#010203", "#040506", "#070809"
"""Stand for colours that the style below names; no other colour is drawn."""
_STYLE = (
    "<style>:root{--ink:#1d2433;--bar:#2f6db5;--grid:#c9ced8}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6e9f0;--bar:#7fb2ee;--grid:#454d5e}}</style>"
)


def histogram(
    edges: Sequence[float], counts: Sequence[int], label: str, middle: float | None = None
) -> str:
    """Bars of `counts` between `edges`, a dashed line at `middle`; the same input, the same text.

    Meant for an `<img>`: it asks for no font, script or address.
    """
    from matplotlib import rc_context  # noqa: PLC0415 - slow to import
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "nightcap", "font.size": 10}):
        figure = Figure(figsize=(4.4, 2.6), layout="constrained")
        figure.patch.set_alpha(0)
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        _draw(axes, edges, counts, middle)
        axes.set_xlabel(label, color=_INK)
        axes.set_ylabel("captions", color=_INK)
        text = StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=nothing)
    return _styled(text.getvalue())


def _draw(axes: Any, edges: Sequence[float], counts: Sequence[int], middle: float | None) -> None:
    width = (edges[1] - edges[0]) or max(abs(edges[0]) / 10, 0.1)
    left = edges[0] - (width / 2 if edges[0] == edges[-1] else 0)
    starts = [left + place * width for place in range(len(counts))]
    axes.bar(starts, counts, width=width * 0.92, align="edge", color=_BAR)
    if middle is not None:
        axes.axvline(middle, color=_INK, linewidth=1, linestyle="--")
    axes.grid(axis="y", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelcolor=_INK)
    axes.locator_params(axis="both", nbins=6)
    axes.margins(x=0.02)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_GRID)


def _styled(svg: str) -> str:
    """From the root element on, its colours named."""
    svg = svg[svg.index("<svg") :]
    for colour, name in ((_INK, "--ink"), (_BAR, "--bar"), (_GRID, "--grid")):
        svg = svg.replace(colour, f"var({name})")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r"(<svg[^>]*>)", lambda root: root[1] + _STYLE, svg, count=1)
