"""K2: all processes of a run are killed at a random moment of any stage; what is resumed is equal.

The stages are shard, embed, train and caption, on a disk and on S3 in turn. A unit that had its
receipt when the kill came must not begin again, and each file that the receipt names must be the
same file afterwards, not an equal one; besides, one unit a lane may be done twice.
"""

import os
import random
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from captioner import scenes
from proofs.forks import Fork
from proofs.small_run import ONE_THREAD, caption_all, embed_all
from proofs.stores import (
    collect,
    contents,
    identities,
    keep_versions,
    litter,
    new_root,
    s3_server,
    whole_contents,
)
from storage.errors import ReceiptError
from storage.layout import open_root
from storage.models import ModelName, versions
from storage.receipts import Receipt
from tasks.options import CaptionOptions, TrainOptions
from tasks.settings.train import settle_training
from tasks.units.jobs import TrainJob
from tasks.units.train import train_model

PICTURES, SHARD, STEPS = 24, 4, 6
LANES = 1
"""Units at work at once: so many may be lost half done."""


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Kill `count` runs, each at a moment drawn by `seed`, half of them on S3."""
    source = _draw(scratch / "pictures")
    moments = random.Random(seed)
    seen = _Seen()
    with s3_server():
        undisturbed = {kind: _Undisturbed.by(kind, source, scratch) for kind in ("local", "s3")}
        while seen.kills < count:
            kind = ("local", "s3")[seen.kills % 2]
            run = _Run(source, new_root(kind, scratch), scratch)
            keep_versions(run.root)
            if run.killed_after(moments.random() * undisturbed[kind].seconds):
                seen.take(run, undisturbed[kind].files)
    ok = seen.kills == seen.identical == seen.kept == count and not seen.litter
    return {"proof": "K2", "ok": ok and seen.most_done_twice <= LANES, **asdict(seen)}


@dataclass(slots=True)
class _Run:
    """One root, worked on by one process after another."""

    source: Path
    root: str
    scratch: Path
    processes: int = 0

    def start(self) -> Fork:
        """Do in a process group of its own what is left to do."""
        self.processes += 1
        return Fork(self._work)

    def killed_after(self, seconds: float) -> bool:
        """Whether a process could be killed before it was done."""
        fork = self.start()
        time.sleep(seconds)
        try:
            os.killpg(fork.pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(fork.pid, signal.SIGKILL)  # it has no group of its own yet
        return fork.wait().signal == signal.SIGKILL

    def begun(self, process: int) -> set[str]:
        """The units that the first or second process began."""
        log = self._log(process)
        return set(log.read_text().splitlines()) if log.exists() else set()

    def done(self) -> dict[str, dict[str, object]]:
        """The files that each receipt names, by the unit that it is of, and their identities."""
        there = identities(self.root)
        found = {}
        for name, data in whole_contents(self.root).items():
            try:
                receipt = Receipt.from_bytes(data)
            except ReceiptError:
                continue
            names = [name, *(file.url for file in receipt.files)]
            unit = f"{receipt.stage} {receipt.shard}"
            found[unit] = {one: there.get(one) for one in names}
        return found

    def _log(self, process: int) -> Path:
        return self.scratch / f"{self.root.split('/')[-2]}-{process}"

    def _begin(self, unit: str) -> None:
        with self._log(self.processes).open("a") as log:
            log.write(f"{unit}\n")

    def _work(self) -> None:
        os.setpgid(0, 0)
        place = open_root(self.root)
        space = embed_all(place, self.source, SHARD, "nano", self._begin)
        training = TrainOptions(out="small", steps=STEPS, compute=ONE_THREAD)
        trained = settle_training(place, training, space, 0)
        if trained.name not in versions(place, "small"):
            self._begin(f"train small/{trained.name}")
        train_model(TrainJob(root=self.root, name="small", version=trained.name))
        options = CaptionOptions(model=str(ModelName("small", trained.name)), compute=ONE_THREAD)
        caption_all(place, space, options, self._begin)


@dataclass(frozen=True, slots=True)
class _Undisturbed:
    """What a run that nobody kills leaves, and how long it takes."""

    files: dict[str, bytes]
    seconds: float

    @classmethod
    def by(cls, kind: str, source: Path, scratch: Path) -> "_Undisturbed":
        """Run once."""
        run, began = _Run(source, new_root(kind, scratch), scratch), time.perf_counter()
        run.start().wait()
        return cls(contents(run.root), time.perf_counter() - began)


@dataclass(slots=True)
class _Seen:
    """What came of all runs."""

    kills: int = 0
    identical: int = 0
    kept: int = 0
    """Runs in which nothing that had a receipt was done again."""
    litter: int = 0
    files_watched: int = 0
    most_done_twice: int = 0
    """Units of one run that were under way when the kill came, and were done again."""
    done_again: list[str] = field(default_factory=list)
    """Units that had a receipt."""

    def take(self, run: _Run, expected: dict[str, bytes]) -> None:
        """Resume `run`, which was killed just now, and compare."""
        done = run.done()
        run.start().wait()
        collect(run.root)
        self.kills += 1
        self.identical += contents(run.root) == expected
        self.litter += len(litter(run.root, expected))
        self.files_watched += sum(map(len, done.values()))
        now, again = identities(run.root), run.begun(2)
        changed = {unit for unit, files in done.items() if not files.items() <= now.items()}
        wrong = changed | again.intersection(done)
        self.kept += not wrong
        self.done_again += sorted(wrong)
        twice = again.intersection(run.begun(1)).difference(done)
        self.most_done_twice = max(self.most_done_twice, len(twice))


def _draw(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, scene in enumerate(scenes.sample(PICTURES, 3)):
        scenes.draw(scene, size=64, seed=number).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(f"a drawn scene, number {number}\n")
    return folder
