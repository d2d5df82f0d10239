"""Verifies what reviewers decided, and the rows as they were: nothing can make either again."""

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from storage.captions import caption_store, run_settings
from storage.edit_originals import read_originals
from storage.edit_rows import base_of
from storage.edits import ORIGINALS, Edit, RowName, edit_files, read_edits
from storage.errors import ShardError
from storage.layout import Root, ShardName
from storage.parquet import read
from storage.receipts import Recorded
from storage.urls import folders, join
from storage.verify_findings import Findings, files_below
from storage.verify_rows import expect

History = Mapping[RowName, Iterable[Edit]]
_DECISIONS = (
    "restore it from a copy; to go on without what it held, put the last file of its folder "
    "in its place"
)
_ORIGINAL = "restore it from a copy: without it no decision about its rows can be taken back"
_APPLIED = (
    "restore `{}` from a copy, or remove all receipts of the shard there, run `nightcap caption` "
    "and then `nightcap apply-edits`"
)


def check_edits(findings: Findings) -> None:
    """Look at the decisions about every run."""
    for run in folders(join(findings.root.url, "edits")):
        before = len(findings.breaches)
        history = _history(findings, run)
        if findings.quick:
            continue
        for url in files_below(join(findings.root.edits(run), ORIGINALS)):
            _check_original(findings, url)
        if len(findings.breaches) == before:
            _check_applied(findings, run, history)


def _history(findings: Findings, run: str) -> dict[RowName, list[Edit]]:
    """What the files of a log hold; one that is damaged, or gone from between others, is told."""
    home = findings.root.edits(run)
    found: dict[RowName, list[Edit]] = {}
    for session in folders(home):
        files = {} if session == ORIGINALS else edit_files(join(home, session))
        for lost in set(range(max(files, default=-1))) - set(files):
            url = join(home, session, f"{lost:06}.json")
            findings.breach(url, "it is missing, with decisions of reviewers", _DECISIONS)
        for url in files.values():
            findings.files += 1
            try:
                edits = read_edits(url)
            except (ShardError, FileNotFoundError):
                findings.breach(url, "it is no whole file of reviewers' decisions", _DECISIONS)
                continue
            for edit in edits:
                found.setdefault(edit.name, []).append(edit)
    return found


def _check_original(findings: Findings, url: str) -> None:
    """Its name bears the hash of its bytes."""
    digest = url.removesuffix(".parquet").rpartition("-")[2]
    found = findings.look(url)
    if found is None or found[1][:16] != digest:
        findings.breach(url, "its bytes are not those that it is named by", _ORIGINAL)


def _check_applied(findings: Findings, run: str, history: History) -> None:
    """Each row that a decision changed has its decision here, and its original."""
    root = findings.root
    mend = _APPLIED.format(root.relative(root.edits(run)))
    settings = join(root.run(run), "run.json")
    settled = findings.attempt(settings, mend, lambda: run_settings(root).read(run))
    if settled is None:
        return
    store = caption_store(root, settled)
    for batch in store.batches():
        for record in store.receipts(batch).values():
            if root.absolute(record.receipt.files[0].url) not in findings.breaches:
                with findings.told(join(store.batch(batch), record.name), mend):
                    _check_shard(root, run, record, history)


def _check_shard(root: Root, run: str, record: Recorded, history: History) -> None:
    receipt = record.receipt
    told = receipt.facts.get("reviewed", {}).get("changed", 0)
    if not told:
        return
    originals = read_originals(root, run, ShardName.parse(receipt.shard))
    keys = pa.array(list(originals), pa.string())
    changed = 0
    for table in read(root.absolute(receipt.files[0].url)):
        for row in table.filter(pc.is_in(table["key"], value_set=keys)).to_pylist():
            edits = history.get((receipt.shard, row["key"]), ())
            changed += row != base_of(row, originals[row["key"]], edits)
    expect(
        changed == told,
        f"decisions changed {told} of its rows, and those of {changed} are here with their "
        "originals",
    )
