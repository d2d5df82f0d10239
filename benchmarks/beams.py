"""Beam search with 5 beams: ours against `generate`, on the captions of the decoding benchmark."""

from contextlib import ExitStack

from benchmarks.captions_task import captions_task, same_share
from benchmarks.comparing import in_turns, versus
from benchmarks.results import Row
from benchmarks.settings import Settings
from benchmarks.side import Side
from captioner.decoding import Beam

BEAMS = 5
BATCHES = (8, 16, 32, 64)


def rows(settings: Settings) -> list[Row]:
    """One row; `generate` has the batch size and precision that suit it best."""
    with captions_task(settings, usual=60) as task, ExitStack() as stack:
        search = Beam(task.gated.longest, (task.gated.stop_id,), beams=BEAMS).to_json()
        specs = (task.ours(decoding=search), task.generate(beams=BEAMS))
        ours, generate = (stack.enter_context(Side(spec)) for spec in specs)
        show = {"items": min(15, task.count), "show": True}
        with Side(task.ours("float32", search)) as exact:
            mine = exact.run(show)["token_ids"]
        theirs = generate.run({**show, "dtype": "float32", "batch": 15})["token_ids"]
        order = {"items": task.count}
        tried = [
            {**order, "dtype": dtype, "batch": batch}
            for dtype in ("float32", "bfloat16")
            for batch in BATCHES
            if batch <= task.count
        ]
        best = min(tried, key=lambda each: generate.run(each)["seconds"])
        sides = {"ours": lambda: ours.run(order), "generate": lambda: generate.run(best)}
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
                note=(
                    f"peer's best: {best['dtype']}, batches of {best['batch']}; "
                    f"{same_share(mine, theirs):.0%} of {len(mine)} captions equal in fp32"
                ),
            )
        ]
