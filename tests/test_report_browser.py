"""The page about a run in a real browser: offline, in light and dark, wide and on a phone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from browser import PHONE, WIDE, chromium, overflow, page_of, serious_findings
from exported_runs import HOSTILE_CAPTIONS
from playwright.sync_api import Browser
from report_pages import lay_hostile

from tasks.reporting import write_report

pytestmark = pytest.mark.slow

MODES: list[tuple[tuple[int, int], Literal["light", "dark"]]] = [
    (size, scheme) for size in (WIDE, PHONE) for scheme in ("light", "dark")
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = lay_hostile(tmp_path_factory.mktemp("hostile"))
    return Path(write_report(root)).as_uri()


@pytest.mark.parametrize(("size", "scheme"), MODES)
def test_nothing_overflows_and_nothing_is_hard_to_read_or_operate(
    size: tuple[int, int], scheme: Literal["light", "dark"], browser: Browser, address: str
) -> None:
    with page_of(browser, size, scheme) as page:
        page.goto(address)
        assert overflow(page) == 0
        assert serious_findings(page) == []
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert overflow(page) == 0
        assert serious_findings(page) == []


def test_no_request_leaves_and_no_caption_runs(browser: Browser, address: str) -> None:
    foreign: list[str] = []
    requests: list[str] = []
    with page_of(browser, foreign=foreign) as page:
        page.on("request", lambda request: requests.append(request.url))
        page.on("dialog", lambda dialog: pytest.fail(f"a dialog opened: {dialog.message}"))
        page.goto(address)
        page.wait_for_timeout(500)
        assert page.evaluate("document.scripts.length") == 0
        assert page.evaluate("document.querySelectorAll('b, a[href^=\"http\"]').length") == 0
        broken = "[...document.images].filter(one => !one.complete || !one.naturalWidth).length"
        assert page.evaluate(broken) == 0
    assert foreign == []
    assert [url for url in requests if not url.startswith(("data:", "file:"))] == []
    assert [url for url in requests if url.startswith("file:")] == [address]


def test_captions_are_shown_as_they_are(browser: Browser, address: str) -> None:
    with page_of(browser) as page:
        page.goto(address)
        shown = page.evaluate(
            "[...document.querySelectorAll('#random .caption')].map(one => one.textContent)"
        )
        for caption in HOSTILE_CAPTIONS:
            text = caption.replace("\r\n", "\n")
            assert any(one.rstrip("…") == text[:280] for one in shown), text[:40]
        direction = page.evaluate(
            "getComputedStyle([...document.querySelectorAll('#random .caption')]"
            f".find(one => one.textContent === {HOSTILE_CAPTIONS[3]!r})).direction"
        )
        assert direction == "rtl"


def test_a_keyboard_reaches_the_sections_and_opens_what_is_closed(
    browser: Browser, address: str
) -> None:
    with page_of(browser) as page:
        page.goto(address)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.goto(address)
        visited = []
        for _ in range(12):
            page.keyboard.press("Tab")
            visited.append(page.evaluate("document.activeElement.getAttribute('href')"))
        assert visited[:4] == ["#main", "#summary", "#random", "#best"]
        page.locator("#numbers summary").first.focus()
        page.keyboard.press("Enter")
        assert page.evaluate("document.querySelector('#numbers details').open") is True
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outline) != "none"


def test_charts_follow_the_colour_scheme(browser: Browser, address: str) -> None:
    darkness = []
    for scheme in ("light", "dark"):
        with page_of(browser, WIDE, scheme) as page:
            page.goto(address)
            picture = page.locator("#numbers figure").first.screenshot()
            darkness.append(mean_grey(picture))
    assert darkness[0] > 180
    assert darkness[1] < 90


def mean_grey(png: bytes) -> float:
    from io import BytesIO

    from PIL import Image, ImageStat

    return float(ImageStat.Stat(Image.open(BytesIO(png)).convert("L")).mean[0])
