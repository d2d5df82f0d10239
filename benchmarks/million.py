"""A million embeddings that somebody stored, captioned by `nano` in one command, then verified."""

from pathlib import Path

from benchmarks.collections_made import stored_embeddings
from benchmarks.commands import nightcap
from benchmarks.results import Row
from benchmarks.settings import Settings
from storage import open_captions


def rows(settings: Settings) -> list[Row]:
    """One row; it fails unless every row is there once and has a caption."""
    count = settings.items(1_000_000, 200)
    with settings.scratch() as scratch:
        stored = stored_embeddings(Path(scratch) / "stored", count)
        root = Path(scratch) / "root"
        run = nightcap("caption", root, "--model", "nano", "--embeddings", stored)
        check(str(root), run.facts["run"], count)
    stage = run.facts["stages"][-1]
    return [
        Row(
            benchmark="million",
            name=f"{count:,} stored embeddings captioned with nano in one command",
            ours=stage["items_per_second"],
            unit="/s",
            peak_mib=run.peak_mib,
            aim="all rows verified, flat memory",
            reached=run.growth() <= 1.1 if count >= 10_000 else None,
            note=(
                f"{run.seconds:.0f} s of wall time; {count:,} keys, each once and with a caption; "
                f"peak memory of the second half is {run.growth():.2f} of the first's"
            ),
            raw={"mib": [round(each) for each in run.mib[:: max(1, len(run.mib) // 100)]]},
        )
    ]


def check(root: str, run: str, count: int) -> None:
    """Raise ValueError unless there are `count` rows with keys of their own, all captioned."""
    keys, captioned = set[str](), 0
    for batch in open_captions(root, run):
        keys.update(batch["key"].to_pylist())
        captioned += sum(
            status == "ok" and bool(text)
            for status, text in zip(
                batch["status"].to_pylist(), batch["caption"].to_pylist(), strict=True
            )
        )
    if len(keys) != count or captioned != count:
        raise ValueError(f"of {count} rows {len(keys)} are there and {captioned} have captions")
