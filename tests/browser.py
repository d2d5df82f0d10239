"""A headless Chromium that shows pages as a person sees them, and axe-core, which judges them.

Chromium is the system's own (Debian: `apt-get install chromium`); nothing is downloaded, and a
page that asks for another machine is refused and told.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, sync_playwright

PHONE = (390, 844)
WIDE = (1280, 900)
NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SERIOUS = ("serious", "critical")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a profile, closed in the end."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    assert program, "no Chromium: install Debian's package chromium (make test-slow does)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_of(
    browser: Browser,
    size: tuple[int, int] = WIDE,
    scheme: Literal["light", "dark"] = "light",
    foreign: list[str] | None = None,
) -> Iterator[Page]:
    """An empty page of this size and colour scheme; errors of its scripts fail the test.

    Only files, data and this machine are reached; every other address that the page asks for is
    put into `foreign`, or fails the test where that is not given.
    """
    asked: list[str] = [] if foreign is None else foreign
    errors: list[str] = []
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        has_touch=size == PHONE,
        is_mobile=size == PHONE,
    )

    def judge(route: Route) -> None:
        url = route.request.url
        if url.startswith(("file:", "data:", "blob:", "http://127.0.0.1", "http://localhost")):
            route.continue_()
        else:
            asked.append(url)
            route.abort()

    try:
        context.route("**/*", judge)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        assert errors == []
        assert foreign is not None or asked == []
    finally:
        context.close()


def serious_findings(page: Page, **options: Any) -> list[str]:
    """What axe-core finds serious or critical, a line for each element."""
    found = Axe().run(page, options=options or None).response
    return [
        f"{one['id']}: {node['html'][:200]}: {node.get('failureSummary', '')}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window: 0 where nobody must scroll sideways."""
    wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return int(page.evaluate(wider))
