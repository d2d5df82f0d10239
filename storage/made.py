"""Which shards of a plan are made: receipts, and whether all they name is still as they say."""

from collections.abc import Callable

from storage.layout import Root
from storage.plan_file import Plan, shard_fingerprint
from storage.receipts import Recorded, recorded, unchanged
from storage.urls import Stat, listing, stat


def made(root: Root, plan: Plan) -> set[str]:
    """Stems of `plan` that are done, their files and inputs as they were; one listing a folder."""
    folders: dict[str, dict[str, Stat]] = {}

    def look(url: str) -> Stat | None:
        folder, _, name = url.rpartition("/")
        if folder not in folders:
            folders[folder] = listing(folder)
        return folders[folder].get(name)

    mark = shard_fingerprint(plan)
    found = receipts_of(plan.folder)
    return {stem for stem, record in found.items() if intact(root, record, mark, look)}


def is_finished(root: Root, plan: Plan) -> bool:
    """Whether nothing of `plan` is left to do."""
    return made(root, plan).issuperset(plan.shards())


def receipts_of(folder: str) -> dict[str, Recorded]:
    """The newest receipt of every shard of the batch in `folder`, by stem, from one listing."""
    files: dict[str, dict[str, Stat]] = {}
    for name, facts in listing(folder).items():
        if name != "plan.json":
            files.setdefault(name.partition(".")[0], {})[name] = facts
    found = {stem: recorded(folder, stem, names) for stem, names in files.items()}
    return {stem: record for stem, record in found.items() if record}


def intact(
    root: Root, record: Recorded, fingerprint: str, look: Callable[[str], Stat | None] = stat
) -> bool:
    """Whether the work `fingerprint` is done, and every file of its receipt is as it says."""
    receipt = record.receipt
    return receipt.fingerprint == fingerprint and all(
        unchanged(facts, url := root.absolute(facts.url), record.changed, look(url))
        for facts in (*receipt.files, *receipt.inputs)
    )
