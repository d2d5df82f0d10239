"""What a root holds and what is left to do, from its files alone."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from storage.captions import caption_store, run_settings
from storage.embeddings import embedding_settings
from storage.layout import Root, ShardName, open_root
from storage.lock import holder
from storage.models import trained_models
from storage.reading import run_space
from storage.run_summary import is_sealed
from storage.settled import SettingsFile, Settled
from storage.urls import folders
from tasks.outstanding import Outstanding, cut_standing, uncaptioned, unembedded

WORDS = ("stage", "of", "batch")


def status(root: str) -> dict[str, Any]:
    """Every stage's standing, each run's, and the models: what `--json` prints."""
    place = open_root(root)
    writer = holder(place)
    spaces = {
        name: settled
        for name in _names(embedding_settings(place))
        if (settled := embedding_settings(place).read(name))
    }
    stages = [_line("shard", "", cut_standing(place))]
    stages += [_line("embed", name, unembedded(place, space)) for name, space in spaces.items()]
    for name in _names(run_settings(place)):
        settled = run_settings(place).read(name)
        if settled:
            space = run_space(place, settled)
            standing = uncaptioned(place, settled, space) if space else _bereft(place, settled)
            line = _line("caption", name, standing)
            stages.append(line | {"sealed": is_sealed(place, settled)})
    return {
        "command": "status",
        "ok": all(not line["missing"] and not line["stale"] for line in stages),
        "root": root,
        "lock": f"{writer} since {writer.since}" if writer else "",
        "stages": stages,
        "models": [str(model) for model in trained_models(place)],
    }


def show_status(facts: dict[str, Any]) -> None:
    """Print `status` as a table."""
    console = Console(highlight=False)
    table = Table()
    for column in (*WORDS, "shards", "done", "missing", "stale", "failed pictures"):
        table.add_column(column, justify="left" if column in WORDS else "right")
    for line in facts["stages"]:
        for batch, standing in line["batches"].items():
            numbers = [standing[name] for name in ("shards", "done", "missing", "stale")]
            failed = sum(standing["failures"].values())
            table.add_row(line["stage"], line["of"], batch, *map(str, [*numbers, failed]))
    console.print(table)
    for sentence in _sentences(facts):
        console.print(sentence, markup=False, soft_wrap=True)


def _sentences(facts: dict[str, Any]) -> Iterator[str]:
    if facts["lock"]:
        yield f"locked: {facts['lock']}"
    for line in facts["stages"]:
        codes = ", ".join(f"{code} {count}" for code, count in line["failures"].items())
        if codes:
            yield f"failed pictures: {line['stage']} {line['of']}: {codes}"
        for shard, why in line["stale"].items():
            yield f"stale: {line['stage']} {shard}: {why}"
    if facts["models"]:
        yield f"models: {', '.join(facts['models'])}"


def _bereft(root: Root, run: Settled) -> Outstanding:
    """A run of which nobody can tell any more what is missing: all that it has is stale."""
    found, store = Outstanding(), caption_store(root, run)
    for batch in store.batches():
        for stem, record in sorted(store.receipts(batch).items()):
            found.want(
                ShardName(batch, stem), record.receipt.rows, "its embeddings are gone", record
            )
    return found


def _line(stage: str, name: str, standing: Outstanding) -> dict[str, Any]:
    stale = standing.stale
    failures: Counter[str] = Counter()
    for batch in standing.batches.values():
        failures.update(batch.failures)
    return {
        "stage": stage,
        "of": name,
        "shards": standing.requested,
        "done": standing.skipped,
        "missing": len(standing.shards) - len(stale),
        "stale": {str(shard): why for shard, why in stale.items()},
        "failures": dict(sorted(failures.items())),
        "batches": {
            name: {
                "shards": batch.shards,
                "done": batch.done,
                "missing": batch.missing,
                "stale": batch.stale,
                "failed": batch.failed,
                "failures": dict(sorted(batch.failures.items())),
            }
            for name, batch in standing.batches.items()
        },
    }


def _names(settings: SettingsFile) -> list[str]:
    return folders(settings.parent)
