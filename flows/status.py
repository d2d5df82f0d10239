"""What a root holds and what is left to do, from its files alone."""

from typing import Any

from rich.console import Console
from rich.table import Table

from storage.captions import run_settings
from storage.embeddings import embedding_settings
from storage.layout import open_root
from storage.models import trained_models
from storage.reading import read_space
from storage.run_summary import is_sealed
from storage.settled import SettingsFile
from storage.urls import folders
from tasks.outstanding import Outstanding, cut_standing, uncaptioned, unembedded


def status(root: str) -> dict[str, Any]:
    """Every stage's standing, each run's, and the models: what `--json` prints."""
    place = open_root(root)
    spaces = {
        name: settled
        for name in _names(embedding_settings(place))
        if (settled := embedding_settings(place).read(name))
    }
    stages = [_line("shard", "", cut_standing(place))]
    stages += [_line("embed", name, unembedded(place, space)) for name, space in spaces.items()]
    for name in _names(run_settings(place)):
        settled = run_settings(place).read(name)
        space = settled and read_space(place, settled.resolved["embeddings"]["space"])
        if settled and space:
            line = _line("caption", name, uncaptioned(place, settled, space))
            stages.append(line | {"sealed": is_sealed(place, settled)})
    return {
        "command": "status",
        "ok": all(not line["missing"] and not line["stale"] for line in stages),
        "root": root,
        "stages": stages,
        "models": [str(model) for model in trained_models(place)],
    }


def show_status(facts: dict[str, Any]) -> None:
    """Print `status` as a table."""
    console = Console(highlight=False)
    table = Table()
    for column in ("stage", "of", "shards", "done", "missing", "stale"):
        table.add_column(column, justify="left" if column in ("stage", "of") else "right")
    for line in facts["stages"]:
        numbers = [line["shards"], line["done"], line["missing"], len(line["stale"])]
        table.add_row(line["stage"], line["of"], *map(str, numbers))
    console.print(table)
    for line in facts["stages"]:
        for shard, why in line["stale"].items():
            console.print(f"stale: {line['stage']} {shard}: {why}", markup=False, soft_wrap=True)
    if facts["models"]:
        console.print(f"models: {', '.join(facts['models'])}", markup=False, soft_wrap=True)


def _line(stage: str, name: str, standing: Outstanding) -> dict[str, Any]:
    stale = standing.stale
    return {
        "stage": stage,
        "of": name,
        "shards": standing.requested,
        "done": standing.skipped,
        "missing": len(standing.shards) - len(stale),
        "stale": {str(shard): why for shard, why in stale.items()},
    }


def _names(settings: SettingsFile) -> list[str]:
    return folders(settings.parent)
