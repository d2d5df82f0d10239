"""The int8 mode: its speed on a gpt2-sized model, its effect on the captions of trained `nano`."""

from contextlib import ExitStack
from statistics import mean

import torch

from benchmarks.captions_task import captions_of, captions_task, check_lengths
from benchmarks.comparing import in_turns, versus
from benchmarks.results import Row
from benchmarks.settings import Settings, fast_dtype
from benchmarks.side import Side
from captioner import scenes
from captioner.configs import Form
from captioner.devices import DTYPES
from captioner.encoders import load_encoder
from captioner.model import load_model
from captioner.nano.train_captioner import EXAM_SEED, embed_scenes
from captioner.scoring import clip_similarities

NAME = "int8 captions, gpt2 + MLP, against our default precision"
AIM = "1.25x, 95 % of nano's captions unchanged"


def rows(settings: Settings) -> list[Row]:
    """One row for the speed, one for the captions."""
    if "int8" not in DTYPES:
        note = "this version has no int8 mode"
        return [Row(benchmark="int8", name=NAME, aim=AIM, note=note)]
    unchanged, sentence = effect(settings.items(500, 10))
    with captions_task(settings) as task, ExitStack() as stack:
        specs = (task.ours("int8"), task.ours())
        small, plain = (stack.enter_context(Side(spec)) for spec in specs)
        order = {"items": task.count}
        for side in (small, plain):
            check_lengths(side.name, captions_of(side, order), task.lengths)
        sides = {"int8": lambda: small.run(order), "plain": lambda: plain.run(order)}
        rates = in_turns(sides, settings.rounds)
        row = versus(
            rates["int8"],
            rates["plain"],
            1.25,
            benchmark="int8",
            name=NAME,
            unit="/s",
            peak_mib=small.peak_mib,
            peer_peak_mib=plain.peak_mib,
            note=f"against {fast_dtype()}; all lengths equal; {sentence}",
        )
    part = Row(
        benchmark="int8",
        name="captions of trained nano that int8 leaves unchanged",
        ours=100 * unchanged,
        unit="%",
        aim="95 %",
        reached=unchanged >= 0.95,
    )
    return [row, part]


def effect(count: int) -> tuple[float, str]:
    """The part of `nano`'s captions of unseen scenes that stay, and a sentence on `clip_sim`.

    They stay as they are in the precision that all but the vocabulary is computed in.
    """
    encoder = load_encoder("nano", Form())
    drawn = scenes.sample(count, EXAM_SEED, held_out=True)
    image_NC = torch.stack(list(embed_scenes(drawn, encoder, EXAM_SEED)))
    texts = {
        dtype: [one.text for one in _captions(dtype, image_NC)]
        for dtype in ("float32", "bfloat16", "int8")
    }
    scores = {
        dtype: mean(clip_similarities(encoder, said, image_NC)) for dtype, said in texts.items()
    }
    kept = {dtype: _same(texts["int8"], texts[dtype]) for dtype in ("bfloat16", "float32")}
    sentence = (
        f"of {count} captions of nano {kept['bfloat16']:.1%} are those of bf16 and "
        f"{kept['float32']:.1%} those of fp32; mean clip_sim {scores['int8']:.4f}, in bf16 "
        f"{scores['bfloat16']:.4f} ({scores['int8'] - scores['bfloat16']:+.4f})"
    )
    return kept[fast_dtype()], sentence


def _captions(dtype: str, image_NC: torch.Tensor) -> list:
    model = load_model("nano", device="cpu", dtype=dtype)
    return [row[0] for row in model.candidates(image_NC, model.decoding)]


def _same(one: list[str], other: list[str]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
