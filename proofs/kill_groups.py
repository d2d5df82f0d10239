"""K2: all processes of a run are killed at a random moment of any stage; what is resumed is equal.

The stages are shard, embed, train and caption, on a disk and on S3 in turn.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from captioner import scenes
from proofs.forks import Fork
from proofs.small_run import ONE_THREAD, caption_all, embed_all
from proofs.stores import contents, is_partial, litter, new_root, s3_server, sweep
from storage.layout import open_root
from storage.models import ModelName
from tasks.options import CaptionOptions, TrainOptions
from tasks.settings.train import settle_training
from tasks.units.jobs import TrainJob
from tasks.units.train import train_model

PICTURES, SHARD, STEPS = 24, 4, 6


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Kill `count` runs, each at a moment drawn by `seed`, half of them on S3."""
    source = _draw(scratch / "pictures")
    moments = random.Random(seed)
    found = dict.fromkeys(("kills", "identical", "receipts_kept", "litter"), 0)
    not_kept: list[str] = []
    with s3_server():
        expected, seconds = {}, {}
        for kind in ("local", "s3"):
            root = new_root(kind, scratch)
            began = time.perf_counter()
            Fork(_work(source, root)).wait()
            expected[kind], seconds[kind] = contents(root), time.perf_counter() - began
        while found["kills"] < count:
            kind = ("local", "s3")[found["kills"] % 2]
            root = new_root(kind, scratch)
            if not _killed(source, root, moments.random() * seconds[kind]):
                continue
            found["kills"] += 1
            there = _receipts(contents(root))
            Fork(_work(source, root)).wait()
            sweep(root)
            after = contents(root)
            found["identical"] += after == expected[kind]
            lost = [name for name, data in there.items() if after.get(name) != data]
            found["receipts_kept"] += not lost
            not_kept += lost
            found["litter"] += len(litter(root, expected[kind]))
    ok = found["kills"] == found["identical"] == found["receipts_kept"] and not found["litter"]
    return {"proof": "K2", "ok": ok, **found, "not_kept": not_kept}


def _killed(source: Path, root: str, seconds: float) -> bool:
    fork = Fork(_work(source, root))
    time.sleep(seconds)
    try:
        os.killpg(fork.pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(fork.pid, signal.SIGKILL)  # it has no group of its own yet
    return fork.wait().signal == signal.SIGKILL


def _receipts(found: dict[str, bytes]) -> dict[str, bytes]:
    """Those that have their names: one being written when the kill came is none yet."""
    return {
        name: data
        for name, data in found.items()
        if b'"digest"' in data[:200_000] and not is_partial(name)
    }


def _work(source: Path, root: str) -> Callable[[], None]:
    def work() -> None:
        os.setpgid(0, 0)
        _finish(source, root)

    return work


def _finish(source: Path, url: str) -> None:
    place = open_root(url)
    space = embed_all(place, source, SHARD, "nano")
    training = TrainOptions(out="small", steps=STEPS, compute=ONE_THREAD)
    trained = settle_training(place, training, space, 0)
    train_model(TrainJob(root=url, name="small", version=trained.name))
    model = str(ModelName("small", trained.name))
    caption_all(place, space, CaptionOptions(model=model, compute=ONE_THREAD))


def _draw(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, scene in enumerate(scenes.sample(PICTURES, 3)):
        scenes.draw(scene, size=64, seed=number).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(f"a drawn scene, number {number}\n")
    return folder
