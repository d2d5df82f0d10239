"""A deployed flow run that fails is tried again, unless it would fail the same way."""

from pathlib import Path
from typing import Any

import pytest
from collections_of_pictures import draw_sizes
from prefect import flow

from captioner.errors import ModelError
from storage.errors import ConfigurationError, StoreUnavailable
from tasks.options import CaptionOptions, LaneOptions

pytestmark = pytest.mark.usefixtures("prefect_api")
AT_ONCE: dict[str, Any] = {"retries": 2, "retry_delay_seconds": 0}


def attempts(state: Any) -> int:
    """How often the flow run of `state` was begun; it has to have failed."""
    from prefect import get_client

    assert state.is_failed()
    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id).run_count


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (ConfigurationError("a wrong word"), 1),
        (ModelError("no such model"), 1),
        (StoreUnavailable("a busy store"), 3),
        (ConnectionError("a worker was lost"), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_may_pass_is_tried_again(error: Exception, times: int) -> None:
    from captioner.errors import CaptionerError
    from flows.attempts import final

    @flow(**AT_ONCE)
    def fails() -> None:
        with final(ConfigurationError, CaptionerError):
            raise error

    assert attempts(fails(return_state=True)) == times


def test_a_night_with_a_wrong_configuration_is_not_tried_again(tmp_path: Path) -> None:
    from flows.nightly import nightly

    draw_sizes(tmp_path / "pictures", 3)
    night = nightly.with_options(**AT_ONCE)
    state = night(
        str(tmp_path / "pictures"),
        str(tmp_path / "root"),
        CaptionOptions(model="size", embeddings=str(tmp_path / "nowhere")),
        lanes=LaneOptions(lanes=0),
        return_state=True,
    )
    assert attempts(state) == 1


def test_a_breach_is_told_once_and_the_root_not_read_again(tmp_path: Path) -> None:
    from flows.nightly import nightly
    from flows.verify import verify

    draw_sizes(tmp_path / "pictures", 3)
    source, root = str(tmp_path / "pictures"), tmp_path / "root"
    size = CaptionOptions(model="size")
    nightly(source, str(root), size, lanes=LaneOptions(lanes=0), return_state=True)
    assert verify(str(root), return_state=True).is_completed()
    (tar,) = root.rglob("*.tar")
    tar.write_bytes(tar.read_bytes()[:-512])
    assert attempts(verify.with_options(retry_delay_seconds=0)(str(root), return_state=True)) == 1
