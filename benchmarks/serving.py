"""The far end of a side: a process that prepares once and then works whenever it is told to.

Standard library only, because peers run it in environments where nothing of ours is installed.
One JSON object a line: the first line read is the set-up; answered with `{"ready": facts}`; each
further line is an order, answered with `{"seconds": s, ...facts}`.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]
Work = Callable[[Facts], Facts]
"""Do what an order says and tell about it; only this is timed. A fact `seconds` of its own stands
in place of the time that the call took."""


def serve(prepare: Callable[[Facts], tuple[Work, Facts]]) -> None:
    """Answer on standard output until standard input ends; what libraries print goes to errors."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work, facts = prepare(json.loads(sys.stdin.readline()))
    _say(answers, {"ready": facts})
    for line in sys.stdin:
        order = json.loads(line)
        began = time.perf_counter()
        found = work(order)
        _say(answers, {"seconds": time.perf_counter() - began, **found})


def _say(answers: Any, facts: Facts) -> None:
    answers.write(json.dumps(facts) + "\n")
    answers.flush()
