"""The pages of `nightcap review` in a real browser: by keyboard, through a crash, for everybody."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reviewed_runs import HOSTILE, lay_reviewed, served

from storage.captions import open_captions
from storage.edits_apply import apply_edits

pytestmark = pytest.mark.slow
CAPTIONS = [*(f"a plain scene, number {number}" for number in range(6)), *HOSTILE, None]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from browser import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> str:
    return lay_reviewed(tmp_path, CAPTIONS)


def saved(page: Any) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#status")).to_have_text("saved")


def settled(page: Any) -> None:
    """Nothing waits to be saved."""
    page.get_by_text("saving").first.wait_for(state="hidden")
    saved(page)


def says(page: Any, number: int) -> str:
    return str(page.locator(f".row[data-id='{number}'] .says").inner_text())


def test_a_reviewer_decides_by_keyboard_and_finds_all_after_a_crash(
    browser: Any, root: str
) -> None:
    """Accept, edit, reject, undo; the server is killed; everything is there, and applied."""
    from browser import page_of

    with served(root, "--reviewer", "ann") as (url, process), page_of(browser) as page:
        page.goto(url)
        page.keyboard.press("j")
        for key in "axe":  # faster than any answer
            page.keyboard.press(key)
        page.keyboard.type(" with <b>a hand</b>")
        page.keyboard.press("Control+Enter")
        page.keyboard.press("x")
        page.keyboard.press("u")
        settled(page)
        assert [says(page, number) for number in range(5)] == [
            *("accepted by ann", "rejected by ann", "edited by ann", "", "")
        ]
        process.send_signal(signal.SIGKILL)
        process.wait()
    with served(root) as (url, _), page_of(browser) as page:
        page.goto(url)
        assert "accepted" in says(page, 0)
        assert "rejected" in says(page, 1)
        assert page.locator(".row[data-id='2'] .caption").inner_text() == (
            "a plain scene, number 2 with <b>a hand</b>"
        )
    apply_edits(root)
    rows = {row["path"]: row for row in open_captions(root).read_all().to_pylist()}
    assert rows["001.png"]["error_code"] == "rejected"
    assert rows["002.png"]["caption"] == "a plain scene, number 2 with <b>a hand</b>"
    assert rows["003.png"]["caption"] == "a plain scene, number 3"


def test_a_decision_made_while_the_server_is_gone_is_saved_when_it_is_back(
    browser: Any, root: str
) -> None:
    from browser import page_of

    with page_of(browser) as page:
        with served(root) as (url, process):
            page.goto(url)
            process.send_signal(signal.SIGKILL)
            process.wait()
            page.keyboard.press("j")
            page.keyboard.press("x")
            page.get_by_text("1 decision waits in this browser").wait_for()
        port = url.split(":")[2].split("/")[0]
        with served(root, "--port", port) as (url, _):
            page.goto(url)
            saved(page)
            assert "rejected" in says(page, 0)


def test_a_decision_that_is_refused_takes_no_other_along(browser: Any, root: str) -> None:
    from browser import page_of

    with served(root) as (url, process), page_of(browser) as page:
        page.goto(url)
        process.send_signal(signal.SIGSTOP)
        page.locator("#by").evaluate("one => { one.value = 'x'.repeat(65) }")
        page.locator(".row[data-id='0'] [data-do=reject]").click()
        page.locator("#by").evaluate("one => { one.value = 'ann' }")
        page.locator(".row[data-id='1'] [data-do=reject]").click()
        process.send_signal(signal.SIGCONT)
        page.get_by_text("say who you are").wait_for()
        page.reload()
        page.locator(".row[data-id='1'] .says").get_by_text("rejected by ann").wait_for()
        assert says(page, 0) == ""


def test_one_of_several_captions_is_chosen_by_its_number(browser: Any, root: str) -> None:
    from browser import page_of

    with served(root) as (url, _), page_of(browser) as page:
        page.goto(f"{url}row?id=2")
        with page.expect_navigation(url=re.compile("id=3")):
            page.keyboard.press("2")
        page.keyboard.press("k")
        page.wait_for_url(re.compile("id=2"))
        assert page.locator(".caption").inner_text() == "another caption for 2"
        page.keyboard.press("u")
        page.locator(".history li").nth(1).wait_for()
        assert page.locator(".caption").inner_text() == "a plain scene, number 2"


def test_two_reviewers_see_each_other_and_the_latest_counts(browser: Any, root: str) -> None:
    from browser import page_of

    with served(root) as (url, _), page_of(browser) as ann, page_of(browser) as bob:
        for page, name in ((ann, "ann"), (bob, "bob")):
            page.goto(url)
            page.fill("#by", name)
            page.keyboard.press("Tab")
        for page in (ann, bob):
            page.locator(".row[data-id='4'] [data-do=edit]").click()
            page.keyboard.type(" (again)")
            page.get_by_role("button", name="Save").click()
            saved(page)
        ann.goto(f"{url}row?id=4")
        assert ann.locator(".says").inner_text() == "edited by bob"
        assert ann.locator(".history bdi").all_inner_texts() == ["ann", "bob"]


def test_hostile_captions_do_nothing_and_stay_as_they_are_when_edited(
    browser: Any, root: str
) -> None:
    from browser import page_of

    with served(root) as (url, _), page_of(browser) as page:
        page.goto(url)
        assert page.title() == "Review of run"
        shown = page.locator(".caption").evaluate_all("all => all.map(one => one.textContent)")
        assert shown[6:12] == list(HOSTILE)
        for number in range(6, 12):
            page.locator(f".row[data-id='{number}'] [data-do=edit]").click()
            page.get_by_role("button", name="Save").click()
            saved(page)
            page.wait_for_timeout(50)
        page.reload()
        shown = page.locator(".caption").evaluate_all("all => all.map(one => one.textContent)")
        assert shown[6:12] == list(HOSTILE)


def test_a_missing_picture_says_why_in_its_place(browser: Any, root: str) -> None:
    from browser import page_of

    Path(root, "shards", "0000", "00000.tar").unlink()
    with served(root) as (url, _), page_of(browser) as page:
        page.goto(url)
        page.get_by_text("is gone").nth(3).wait_for()
        assert page.locator(".card img").count() == len(CAPTIONS) - 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "phone"])
def test_pages_have_no_serious_fault_and_fit_their_window(
    browser: Any, root: str, scheme: Any, size: str
) -> None:
    from browser import PHONE, WIDE, overflow, page_of, serious_findings

    window = PHONE if size == "phone" else WIDE
    with served(root) as (url, _), page_of(browser, window, scheme) as page:
        page.goto(url)
        for key in "axe":
            page.keyboard.press("j")
            page.keyboard.press(key)
            page.wait_for_timeout(150)
        assert serious_findings(page) == []
        assert overflow(page) == 0
        for number in (0, 6, 10, 12):
            page.goto(f"{url}row?id={number}")
            assert serious_findings(page) == []
            assert overflow(page) == 0
