"""Beam search with 5 beams: ours against `generate`, on the captions of the decoding benchmark."""

from contextlib import ExitStack
from typing import Any

from benchmarks.captions_task import (
    CaptionsTask,
    best_generate,
    captions_of,
    captions_task,
    check_lengths,
    equal_share,
)
from benchmarks.comparing import in_turns, versus
from benchmarks.results import Row
from benchmarks.settings import Settings
from benchmarks.side import Side
from captioner.decoding import Beam

BEAMS = 5
BATCHES = (8, 16, 32, 64)
FEW = 15
"""Captions that are compared in float32."""


def rows(settings: Settings) -> list[Row]:
    """One row; `generate` has the batch size and precision that suit it best."""
    with captions_task(settings, usual=60) as task, ExitStack() as stack:
        search = Beam(task.gated.longest, (task.gated.stop_id,), beams=BEAMS).to_json()
        note = agreement(task, search)
        ours = stack.enter_context(Side(task.ours(decoding=search)))
        generate, best = stack.enter_context(best_generate(task, BATCHES, task.count, beams=BEAMS))
        order = {"items": task.count, **best}
        for side in (ours, generate):
            check_lengths(side.name, captions_of(side, order), task.lengths)
        sides = {"ours": lambda: ours.run(order), "generate": lambda: generate.run(order)}
        rates = in_turns(sides, settings.rounds)
        return [
            versus(
                rates["ours"],
                rates["generate"],
                2,
                benchmark="beams",
                name="captions, gpt2 + MLP, 5 beams, against transformers generate",
                unit="/s",
                peak_mib=ours.peak_mib,
                peer_peak_mib=generate.peak_mib,
                note=f"peer's best: {best['dtype']}, batches of {best['batch']}; {note}",
            )
        ]


def agreement(task: CaptionsTask, search: dict[str, Any]) -> str:
    """How many captions are equal in float32; raises ValueError where too few are."""
    order = {"items": min(FEW, task.count), "dtype": "float32", "batch": FEW}
    with Side(task.ours("float32", search)) as ours:
        mine = captions_of(ours, order)
    with Side(task.generate("float32", beams=BEAMS)) as generate:
        theirs = captions_of(generate, order)
    share = equal_share("generate", mine, theirs)
    return f"{share:.0%} of {len(mine)} captions equal in fp32, all lengths equal"
