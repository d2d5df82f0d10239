"""Lanes: worker processes that live long, can be lost, and can be ended."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest

from storage.errors import ShardError
from tasks.lanes import (
    LaneLost,
    Lanes,
    LanesClosed,
    close_lanes,
    in_lane,
    open_lanes,
    work_seconds,
)
from tasks.progress import Tick, listened

UNIT = "lane_units:"


def test_a_lane_keeps_its_process_so_that_a_model_is_loaded_once() -> None:
    with Lanes(1) as lanes:
        first, second = lanes.call(UNIT + "whoami"), lanes.call(UNIT + "whoami")
    assert first == second != os.getpid()


def test_two_lanes_work_at_the_same_time_in_two_processes() -> None:
    with Lanes(2) as lanes, ThreadPoolExecutor(2) as threads:
        found = set(threads.map(lambda _: lanes.call(UNIT + "whoami", 0.5), range(4)))
    assert len(found) == 2


def test_no_lanes_means_this_process() -> None:
    assert in_lane(UNIT + "whoami") == os.getpid()
    with Lanes(0) as lanes:
        assert lanes.call(UNIT + "whoami") == os.getpid()


def test_what_a_unit_raises_arrives_as_it_is() -> None:
    with Lanes(1) as lanes, pytest.raises(ShardError, match="cut short"):
        lanes.call(UNIT + "fail", "cut short")


def test_a_lane_that_dies_is_replaced(tmp_path: Path) -> None:
    mark = str(tmp_path / "died")
    with Lanes(1) as lanes:
        with pytest.raises(LaneLost, match="died"):
            lanes.call(UNIT + "die_once", mark)
        assert lanes.call(UNIT + "die_once", mark) == "alive"


def test_a_lane_that_hangs_is_ended_in_time() -> None:
    with Lanes(1, timeout=3) as lanes:
        lanes.call(UNIT + "whoami")
        began = time.monotonic()
        with pytest.raises(LaneLost, match="more than 3 s"):
            lanes.call(UNIT + "hang")
        assert time.monotonic() - began < 20
        assert lanes.call(UNIT + "whoami") != os.getpid()


def test_progress_in_a_lane_reaches_whoever_listens_here() -> None:
    heard: list[Tick] = []
    with listened(heard.append), Lanes(1) as lanes:
        lanes.call(UNIT + "count", 3)
        lanes.call(UNIT + "count", 4)
    assert [(tick.stage, tick.done) for tick in heard] == [("counting", 3), ("counting", 4)]


def test_flows_inside_a_flow_share_its_lanes() -> None:
    with open_lanes(1, 60) as outer, open_lanes(4, 60) as inner:
        assert inner is outer


def test_a_task_is_tried_again_for_a_lost_lane_and_not_for_a_bad_shard() -> None:
    from tasks.retryable import transient

    class State:
        """What Prefect passes: the result of the attempt."""

        def __init__(self, error: Exception) -> None:
            self.error = error

        def result(self, *, raise_on_failure: bool) -> Exception:
            assert not raise_on_failure
            return self.error

    assert transient(None, None, State(LaneLost("gone")))
    assert transient(None, None, State(ConnectionResetError("reset")))
    assert not transient(None, None, State(ShardError("damaged")))
    assert not transient(None, None, State(FileNotFoundError("not there")))
    assert not transient(None, None, State(MemoryError()))


@pytest.mark.parametrize("count", [0, 1])
def test_seconds_inside_units_are_summed_up(count: int) -> None:
    """What is left of a stage's own seconds is orchestration: a lane's start is not work."""
    assert work_seconds() == 0
    with Lanes(count) as lanes:
        for _ in range(2):
            in_lane(UNIT + "whoami", 0.2)
        assert work_seconds() == lanes.work_seconds
        assert 0.4 <= lanes.work_seconds < 0.6
        with pytest.raises(ShardError):
            in_lane(UNIT + "fail", "cut short")
        assert lanes.work_seconds < 0.6
    assert work_seconds() == 0


def test_lanes_that_are_closed_end_their_work_and_take_no_other() -> None:
    """An interrupt waits for no hung process, and nobody goes on with the work elsewhere."""
    with Lanes(1) as lanes, ThreadPoolExecutor(2) as threads:
        lane = lanes.call(UNIT + "whoami")
        hung, waiting = (threads.submit(lanes.call, UNIT + "hang") for _ in range(2))
        time.sleep(0.5)
        os.kill(lane, signal.SIGSTOP)
        began = time.monotonic()
        close_lanes()
        for refused in (hung, waiting):
            with pytest.raises(LanesClosed, match="closed"):
                refused.result(20)
        assert time.monotonic() - began < 10
    for later in (lanes, Lanes(0)):
        later.close()
        with pytest.raises(LanesClosed):
            later.call(UNIT + "whoami")


def test_a_lane_that_starts_while_it_is_closed_ends_too() -> None:
    with Lanes(1) as lanes, ThreadPoolExecutor(1) as threads:
        starting = threads.submit(lanes.call, UNIT + "hang")
        time.sleep(0.01)
        lanes.close()
        with pytest.raises(LanesClosed):
            starting.result(20)


def test_a_task_of_lanes_that_are_closed_does_not_run_in_this_process() -> None:
    with Lanes(1):
        task = copy_context()
    assert in_lane(UNIT + "whoami") == os.getpid()
    with pytest.raises(LanesClosed):
        task.run(in_lane, UNIT + "whoami")
