"""Captions a second of a gpt2-sized captioner: ours, `generate`, and one image at a time.

All read the same embeddings and write captions of 6 to 20 tokens (`benchmarks.gated`).
"""

from contextlib import ExitStack
from typing import Any

from benchmarks.captions_task import CaptionsTask, captions_task, check_lengths, same_share
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
        specs = (task.ours(), task.loop(), task.generate(), task.limit())
        ours, loop, generate, limit = (stack.enter_context(Side(spec)) for spec in specs)
        note = agreement(task, loop, generate)
        best = best_generate(task, generate)
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


def agreement(task: CaptionsTask, loop: Side, generate: Side) -> str:
    """How alike the sides' captions are; raises ValueError where lengths are not as ordered.

    Ours are computed in both precisions by sides that end here.
    """
    show = {"items": task.count, "show": True}
    peers = {
        kind: generate.run({**show, "dtype": kind, "batch": 64})["token_ids"]
        for kind in ("float32", "bfloat16")
    }
    looped = loop.run({"items": LOOPED, "show": True})["token_ids"]
    mine = {}
    for kind in peers:
        with Side(task.ours(kind)) as ours:
            mine[kind] = ours.run(show)["token_ids"]
    for name, written in (*peers.items(), *mine.items(), ("loop", looped)):
        check_lengths(task, name, written)
    equal = {kind: same_share(mine[kind], peers[kind]) for kind in mine}
    few = same_share([mine["float32"][row] for row in few_rows(task.lengths, LOOPED)], looped)
    lost = same_share(mine["float32"], mine["bfloat16"])
    return (
        f"Equal captions of {task.count}: in fp32 {equal['float32']:.1%} to generate's and "
        f"{few:.0%} to the loop's, in bf16 {equal['bfloat16']:.1%} to generate's and {lost:.1%} to "
        "our own in fp32 (noise for weights: the likeliest tokens are close together); all "
        "lengths equal"
    )


def best_generate(task: CaptionsTask, generate: Side) -> dict[str, Any]:
    """The batch size and precision with which `generate` is fastest, by trying all on a half."""
    count = -(-task.count // 2)
    orders = [
        {"dtype": kind, "batch": batch}
        for kind in ("float32", "bfloat16")
        for batch in BATCHES
        if batch <= count or batch == BATCHES[0]
    ]
    return min(orders, key=lambda order: generate.run({"items": count, **order})["seconds"])
