"""Captions a second of a gpt2-sized captioner: ours, `generate`, and one image at a time.

All read the same embeddings and write captions of 6 to 20 tokens (`benchmarks.gated`).
"""

from contextlib import ExitStack
from typing import Any

from benchmarks.captions_task import (
    CaptionsTask,
    best_generate,
    captions_of,
    captions_task,
    check_lengths,
    equal_share,
    same_share,
)
from benchmarks.comparing import in_turns, share, versus
from benchmarks.gated import few_rows, gigaflops
from benchmarks.results import Row
from benchmarks.settings import Settings
from benchmarks.side import Side

LOOPED = 3
"""Captions that the loop writes in a round: it makes less than one a second."""
BATCHES = (32, 64, 128, 256)


def rows(settings: Settings) -> list[Row]:
    """Against the loop and the best `generate`, and our share of the limit."""
    with captions_task(settings) as task, ExitStack() as stack:
        specs = (task.ours(), task.loop(), task.limit())
        ours, loop, limit = (stack.enter_context(Side(spec)) for spec in specs)
        note = agreement(task, loop)
        half = -(-task.count // 2)
        generate, best = stack.enter_context(best_generate(task, BATCHES, half))
        order = {"items": task.count}
        rates = in_turns(
            {
                "limit": lambda: limit.run({"what": ours.facts["dtype"]}),
                "ours": lambda: ours.run(order),
                "generate": lambda: generate.run({**order, **best}),
                "loop": lambda: loop.run({"items": LOOPED}),
            },
            settings.rounds,
        )
        about: dict[str, Any] = {"benchmark": "decoding", "peak_mib": ours.peak_mib}
        chosen = f"peer's best: {best['dtype']}, batches of {best['batch']}. {note}"
        return [
            versus(
                rates["ours"],
                rates["loop"],
                60,
                name="captions, gpt2 + MLP, against a loop of one at a time without cache, fp32",
                unit="/s",
                peer_peak_mib=loop.peak_mib,
                **about,
            ),
            versus(
                rates["ours"],
                rates["generate"],
                2,
                name="captions, gpt2 + MLP, against transformers generate",
                unit="/s",
                peer_peak_mib=generate.peak_mib,
                note=chosen,
                **about,
            ),
            share(
                rates["ours"],
                rates["limit"],
                gigaflops(task.gated, task.lengths),
                0.80,
                name="captions, gpt2 + MLP, against the matrix product in the same precision",
                unit="GFLOP/s",
                note=f"in {ours.facts['dtype']}, as a run chooses on this machine",
                **about,
            ),
        ]


def agreement(task: CaptionsTask, loop: Side) -> str:
    """How alike the sides' captions are; raises ValueError where lengths are not as ordered, or
    words in float32 not the same.

    Ours and `generate`'s are computed in both precisions by sides that end here.
    """
    order = {"items": task.count}
    looped = captions_of(loop, {"items": LOOPED})
    chosen = few_rows(task.lengths, LOOPED)
    check_lengths("loop", looped, [task.lengths[row] for row in chosen])
    mine, theirs = {}, {}
    with Side(task.generate("float32", "bfloat16")) as generate:
        for kind in ("float32", "bfloat16"):
            theirs[kind] = captions_of(generate, {**order, "dtype": kind, "batch": 64})
            check_lengths(f"generate in {kind}", theirs[kind], task.lengths)
    for kind in theirs:
        with Side(task.ours(kind)) as ours:
            mine[kind] = captions_of(ours, order)
            check_lengths(f"ours in {kind}", mine[kind], task.lengths)
    exact = equal_share("generate", mine["float32"], theirs["float32"])
    few = equal_share("the loop", [mine["float32"][row] for row in chosen], looped)
    half = same_share(mine["bfloat16"], theirs["bfloat16"])
    lost = same_share(mine["float32"], mine["bfloat16"])
    return (
        f"Equal captions of {task.count}: in fp32 {exact:.1%} to generate's and "
        f"{few:.0%} to the loop's, in bf16 {half:.1%} to generate's and {lost:.1%} to "
        "our own in fp32 (noise for weights: the likeliest tokens are close together); all "
        "lengths equal"
    )
