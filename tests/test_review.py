"""`nightcap review`: what its pages show, whom they let in, and what they keep."""

import json
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curated_runs import failed, lay_run, row
from reviewed_runs import HOSTILE, lay_reviewed, served
from starlette.testclient import TestClient

from flows.review_app import review_app
from storage.errors import ConfigurationError
from storage.review import ReviewTable, open_review
from storage.review_pictures import Pictures
from storage.review_query import Wanted

DOOR = "open-sesame"
CAPTIONS = [*(f"a plain square, number {number}" for number in range(9)), None]


@pytest.fixture
def opened() -> Iterator[Any]:
    """Opens the review of a root; the table, and a browser that knows the token."""
    with ExitStack() as stack:

        def open_it(root: str, **given: str) -> tuple[ReviewTable, TestClient]:
            table = stack.enter_context(open_review(root, **given))
            app = review_app(table, Pictures(table.root), DOOR, "ann")
            return table, TestClient(app, base_url=f"http://127.0.0.1/{DOOR}/")

        yield open_it


@pytest.fixture
def root(tmp_path: Path) -> str:
    return lay_reviewed(tmp_path, CAPTIONS)


def send(
    browser: TestClient, row: dict[str, Any], action: str, caption: str = "", **given: str
) -> Any:
    edit = {"id": uuid.uuid4().hex, "shard": row["shard"], "key": row["key"]} | given
    body = {"by": "ann", "edits": [edit | {"action": action, "caption": caption}]}
    return browser.post("edits", json=body)


def numbers(table: ReviewTable, **wanted: Any) -> list[int]:
    return [row["id"] for row in table.page(Wanted(**wanted), 100).rows]


def test_rows_are_chosen_by_text_score_and_status(root: str, opened: Any) -> None:
    table, _ = opened(root)
    assert numbers(table) == list(range(10))
    assert numbers(table, text="NUMBER 3") == [3]
    assert numbers(table, text="torn photo") == [9]
    assert numbers(table, state="failed") == [9]
    assert numbers(table, low=0.255, high=0.275) == [6, 7]
    assert numbers(table, text="100%") == []


def test_pages_meet_without_a_gap_in_every_order_and_both_ways(root: str, opened: Any) -> None:
    table, _ = opened(root)
    for order, first in (("row", 0), ("worst", 0), ("best", 8)):
        wanted = Wanted(order=order)
        whole = [row["id"] for row in table.page(wanted, 100).rows]
        assert (whole[0], whole[-1]) == (first, 9)
        page, seen = table.page(wanted, 3), []
        while True:
            seen += [row["id"] for row in page.rows]
            if not page.later:
                break
            page = table.page(wanted, 3, after=page.rows[-1]["place"])
        assert seen == whole
        back = table.page(wanted, 3, before=page.rows[0]["place"])
        assert [row["id"] for row in back.rows] == whole[6:9]
        assert (back.earlier, back.later) == (True, True)


def test_a_decision_is_on_disk_when_it_is_answered(root: str, opened: Any) -> None:
    table, browser = opened(root)
    answer = send(browser, table.row(3), "edit", "a cat")
    assert answer.json()["rows"][0] | {"key": "", "edit": ""} == {
        "edit": "",
        "id": 3,
        "shard": "0000/00000",
        "key": "",
        "action": "edit",
        "caption": "a cat",
        "says": "edited by ann",
    }
    again, _ = opened(root)
    assert again.row(3)["decided"] == "a cat"
    assert numbers(again, review="edit") == [3]
    assert numbers(again, text="a cat") == [3]
    assert numbers(again, review="open") == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_an_undo_brings_back_what_stood_before(root: str, opened: Any) -> None:
    table, browser = opened(root)
    send(browser, table.row(0), "accept", "another caption for 0")
    send(browser, table.row(0), "reject")
    answer = send(browser, table.row(0), "undo").json()["rows"][0]
    assert (answer["action"], answer["caption"]) == ("accept", "another caption for 0")
    answer = send(browser, table.row(0), "undo").json()["rows"][0]
    assert (answer["action"], answer["caption"]) == (None, "a plain square, number 0")
    assert send(browser, table.row(0), "undo").json()["rows"][0]["action"] is None
    assert [edit.action for edit in table.history(table.row(0))] == [
        *("accept", "reject", "undo", "undo")
    ]


def test_a_decision_and_its_undo_may_come_together(root: str, opened: Any) -> None:
    """Keys are pressed faster than the disk is flushed; sent twice, they are one."""
    table, browser = opened(root)
    row = table.row(0)
    first, second = (
        {"id": uuid.uuid4().hex, "shard": row["shard"], "key": row["key"]} for _ in "ab"
    )
    first |= {"action": "reject"}
    second |= {"action": "undo", "undoes": first["id"]}
    for _ in range(2):
        answer = browser.post("edits", json={"by": "ann", "edits": [first, second]})
        assert [one["action"] for one in answer.json()["rows"]] == [None, None]
    assert [edit.action for edit in table.history(row)] == ["reject", "undo"]


def test_what_another_server_keeps_is_seen_and_the_latest_wins(root: str, opened: Any) -> None:
    ours, our_browser = opened(root)
    theirs, their_browser = opened(root)
    send(our_browser, ours.row(1), "edit", "ours")
    send(their_browser, theirs.row(1), "edit", "theirs")
    page = our_browser.get("row", params={"id": 1}).text
    assert re.findall(r"<q[^>]*>(\w+)</q>", page) == ["ours", "theirs"]
    assert ours.row(1)["decided"] == "theirs"


def test_a_failed_picture_has_no_caption_to_judge(root: str, opened: Any) -> None:
    table, browser = opened(root)
    for action in ("accept", "edit", "reject"):
        answer = send(browser, table.row(9), action, "words")
        assert (answer.status_code, "'009.png' failed (corrupt)" in answer.text) == (400, True)


def test_an_undo_takes_nothing_back_that_its_sender_has_not_seen(root: str, opened: Any) -> None:
    table, browser = opened(root)
    seen = send(browser, table.row(1), "reject").json()["rows"][0]["edit"]
    _, other = opened(root)
    send(other, table.row(1), "edit", "theirs")
    answer = send(browser, table.row(1), "undo", undoes=seen)
    assert (answer.status_code, "decided about '001.png' meanwhile" in answer.text) == (400, True)
    assert table.row(1)["decided"] == "theirs"


def test_pictures_come_out_of_the_tars_byte_for_byte(root: str, opened: Any) -> None:
    table, browser = opened(root)
    for number in (9, 0, 5):
        answer = browser.get(f"image/{number}")
        assert answer.headers["content-type"] == "image/png"
        path = Path(root).parent / "pictures" / table.row(number)["path"]
        assert answer.content == path.read_bytes()


def test_a_picture_that_is_gone_or_another_is_told_and_costs_no_other(
    root: str, opened: Any
) -> None:
    table, browser = opened(root)
    tars = sorted(Path(root, "shards", "0000").glob("*.tar"))
    assert browser.get("image/0").status_code == 200
    tars[0].unlink()
    tars[1].write_bytes(tars[1].read_bytes().replace(b"IHDR", b"IHXR"))
    gone, other = browser.get("image/1"), browser.get("image/4")
    assert (gone.status_code, "is gone" in gone.text) == (410, True)
    assert (other.status_code, "another picture" in other.text) == (410, True)
    assert browser.get("image/9").status_code == 200
    assert browser.get("./").status_code == 200
    assert send(browser, table.row(1), "reject").status_code == 200


def test_hostile_captions_are_shown_as_text(tmp_path: Path, opened: Any) -> None:
    _, browser = opened(lay_reviewed(tmp_path, HOSTILE))
    for page in (browser.get("./").text, browser.get("row", params={"id": 0}).text):
        assert page.count("<script") == 1, "a script that is not ours"
        assert "&lt;script&gt;document.title" in page
    page = browser.get("./", params={"text": '"><script>1</script>', "order": "best"}).text
    assert page.count("<script") == 1


def test_hostile_edits_come_back_letter_for_letter(root: str, opened: Any) -> None:
    table, browser = opened(root)
    for number, text in enumerate(HOSTILE):
        assert send(browser, table.row(number), "edit", text).status_code == 200
    again, _ = opened(root)
    assert [again.row(number)["decided"] for number in range(len(HOSTILE))] == list(HOSTILE)


def test_only_this_machine_with_the_token_is_let_in(root: str, opened: Any) -> None:
    table, browser = opened(root)
    assert browser.get("./", headers={"host": "evil.example"}).status_code == 400
    other = TestClient(browser.app, base_url="http://127.0.0.1/wrong/")
    for answer in (other.get("./"), other.get("image/0"), send(other, table.row(0), "reject")):
        assert answer.status_code == 404
    assert table.row(0)["action"] is None
    headers = browser.get("./").headers
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"id": "../../x"}, "cannot name an edit"),
        ({"action": "drop"}, "is none of accept, edit, reject, undo"),
        ({"action": "edit", "caption": " \n"}, "an empty caption"),
        ({"action": "edit", "caption": "x" * 100_001}, "100000 letters"),
        ({"action": "edit", "caption": "\ud83d"}, "half a letter"),
        ({"key": "nobody"}, "there is no row '0000/00000/nobody'"),
        ({"shard": 7}, "by shard and key"),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused_in_a_sentence(
    root: str, opened: Any, change: dict[str, Any], sentence: str
) -> None:
    table, browser = opened(root)
    row = table.row(0)
    edit = {"id": uuid.uuid4().hex, "shard": row["shard"], "key": row["key"], "action": "reject"}
    body = json.dumps({"by": "ann", "edits": [edit | change]})
    answer = browser.post("edits", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert sentence in answer.text
    assert not list(Path(root, "edits").rglob("*.json"))


@pytest.mark.parametrize("asked", ["order=random", "low=much", "after=x", "id=x", "state=%00"])
def test_an_address_that_makes_no_sense_is_refused(root: str, opened: Any, asked: str) -> None:
    _, browser = opened(root)
    page = "row" if asked.startswith("id") else "./"
    assert browser.get(f"{page}?{asked}").status_code in (400, 404)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [([], "This run has no rows."), ([failed("a"), failed("b")], "2 rows"), ([row("a")], "1 row")],
)
def test_empty_failed_and_single_runs_can_be_looked_at(
    tmp_path: Path, opened: Any, rows: list[Any], sentence: str
) -> None:
    """Their pictures are nowhere, which each card says when it is asked."""
    _, browser = opened(lay_run(tmp_path, {"0000/00000": rows} if rows else {}))
    assert sentence in browser.get("./").text
    if rows:
        assert "none yet" in browser.get("row", params={"id": 0}).text
        assert browser.get("image/0").status_code == 410


def test_only_the_rows_of_a_file_of_ids_are_shown(root: str, opened: Any, tmp_path: Path) -> None:
    table, _ = opened(root)
    chosen = [table.row(number) for number in (2, 7)]
    names = {name: [row[name] for row in chosen] for name in ("shard", "key")}
    pq.write_table(pa.table(names), tmp_path / "ids.parquet")
    some, _ = opened(root, ids=str(tmp_path / "ids.parquet"))
    assert numbers(some) == [2, 7]
    (tmp_path / "odd.parquet").write_text("no table")
    with pytest.raises(ConfigurationError, match="columns shard and key"):
        opened(root, ids=str(tmp_path / "odd.parquet"))


def test_a_killed_server_has_lost_nothing_that_it_answered(root: str) -> None:
    with served(root) as (url, process):
        page = httpx.get(url).text
        shard, key = re.search(r'data-shard="([^"]+)" data-key="([^"]+)"', page).groups()
        edit = {"id": uuid.uuid4().hex, "shard": shard, "key": key}
        body = {"by": "ann", "edits": [edit | {"action": "edit", "caption": "a cat"}]}
        answer = httpx.post(f"{url}edits", json=body)
        assert answer.json()["rows"][0]["caption"] == "a cat"
        process.send_signal(signal.SIGKILL)
    with open_review(root) as table:
        assert table.row(0)["decided"] == "a cat"


def test_a_taken_port_is_told_in_one_sentence(root: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-c", "from flows.cli import main; main()", "review", root]
        done = subprocess.run(
            [*command, "--port", port], capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr == (
        f"nightcap: port {port} is taken: give another with --port, or --port 0 for any free one\n"
    )
