"""Which shards of a plan are made: receipts, and whether all they name is still as they say."""

from collections.abc import Callable

from storage.layout import Root
from storage.plan_file import FILE, Plan, shard_fingerprint
from storage.receipts import Recorded, recorded_all, unchanged
from storage.urls import Stat, listing, stat

Look = Callable[[str], Stat | None]
"""What the store says of a URL, None where there is no such file."""


def made(root: Root, plan: Plan) -> set[str]:
    """Stems of `plan` that are done, their files and inputs as they were; one listing a folder."""
    mark, look = shard_fingerprint(plan), listed()
    found = receipts_of(plan.folder)
    return {stem for stem, record in found.items() if intact(root, record, mark, look)}


def receipts_of(folder: str) -> dict[str, Recorded]:
    """The newest receipt of every shard of the batch in `folder`, by stem."""
    return recorded_all(folder, beside=FILE)


def is_finished(root: Root, plan: Plan) -> bool:
    """Whether nothing of `plan` is left to do."""
    return made(root, plan).issuperset(plan.shards())


def intact(root: Root, record: Recorded, fingerprint: str, look: Look = stat) -> bool:
    """Whether the work `fingerprint` is done, and every file of its receipt is as it says."""
    return record.receipt.fingerprint == fingerprint and not touched(root, record, look)


def touched(root: Root, record: Recorded, look: Look = stat) -> str:
    """Name of the first file of a receipt that is not as the receipt says; empty if all are."""
    for facts in (*record.receipt.files, *record.receipt.inputs):
        url = root.absolute(facts.url)
        now = look(url)
        if now is None or not unchanged(facts, url, record.changed, now):
            return facts.url
    return ""


def listed() -> Look:
    """A look that lists each folder once, for whoever looks at most of its files."""
    folders: dict[str, dict[str, Stat]] = {}

    def look(url: str) -> Stat | None:
        folder, _, name = url.rpartition("/")
        if folder not in folders:
            folders[folder] = listing(folder)
        return folders[folder].get(name)

    return look
