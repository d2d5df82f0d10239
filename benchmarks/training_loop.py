"""Training an MLP with gpt2 fine-tuned, against a loop like ClipCap's; and whether losses agree.

Both are in `benchmarks.training`, which can also be run by itself.
"""

from importlib.util import find_spec

from benchmarks.comparing import Rates, versus
from benchmarks.results import Row
from benchmarks.settings import Settings
from captioner.devices import use_threads

NAME = "training, MLP + gpt2 fine-tuned, against a ClipCap-style loop (fp32, fixed padding)"
STEPS, SMALL_STEPS = 20, 500


def rows(settings: Settings) -> list[Row]:
    """Samples a second over 20 steps of each in turn, and the loss after 500 on two layers."""
    if find_spec("benchmarks.training") is None:
        return [Row(benchmark="training-loop", name=NAME, aim="4x", note="not in this version")]
    from benchmarks.training import BATCH, compared_losses, timed_pairs  # noqa: PLC0415

    use_threads(settings.threads)
    pairs = timed_pairs(settings.items(STEPS, 2))
    ours, peer = (
        Rates(tuple(BATCH / seconds for seconds in one)) for one in zip(*pairs, strict=True)
    )
    steps = settings.items(SMALL_STEPS, 5)
    losses = compared_losses(steps, 0)
    apart = losses.ours / losses.peer - 1
    return [
        versus(
            ours,
            peer,
            4,
            benchmark="training-loop",
            name=NAME,
            unit="/s",
            note=f"samples a second, the median of {len(pairs)} steps",
        ),
        Row(
            benchmark="training-loop",
            name=f"held-out loss after {steps} steps on a 2-layer model, against that loop's",
            ours=losses.ours,
            peer=losses.peer,
            unit="nats/token",
            ratio=losses.ours / losses.peer,
            aim="within 1 %",
            reached=abs(apart) <= 0.01 if steps >= SMALL_STEPS else None,
            note=f"{apart:+.2%}",
        ),
    ]
