"""Verifies ingests: plan against itself, index against plan, tar against index."""

import hashlib
import json
from itertools import chain

import pyarrow.compute as pc

from storage.errors import ShardError
from storage.fingerprint import sha256_stream
from storage.layout import ShardName
from storage.parquet import read, read_schema
from storage.plan_file import FILE, Plan, find_plan, shard_fingerprint
from storage.plan_rows import PLAN
from storage.receipts import Recorded, stem_of
from storage.schema import INDEX, facts_of, with_facts
from storage.shard_commit import STAGE
from storage.shards import ShardStore
from storage.urls import join, listing, open_read, read_bytes
from storage.verify_findings import Findings, Mark
from storage.verify_rows import RowTally, expect, there

Cut = dict[ShardName, Recorded]
"""The newest sound receipt of each shard."""
_PLAN = "restore it from a copy: what was planned cannot be told from anything else"
_AGAIN = "remove it and run `nightcap shard` with its source again"


def check_shards(findings: Findings) -> Cut:
    """Look at every batch; the shards that later stages may be made from."""
    found: Cut = {}
    for batch in findings.root.batches():
        plan = _plan(findings, batch)
        if plan is None:
            continue
        mark = Mark(STAGE, batch, lambda _, plan=plan: shard_fingerprint(plan), _AGAIN)  # type: ignore[misc]
        receipts = findings.receipts(plan.folder, mark, beside=FILE)
        stems = plan.shards()
        for stem in sorted(set(stems) - set(receipts)):
            findings.unfinished.append(f"shard {batch}/{stem} is not cut")
        for stem, record in sorted(receipts.items()):
            url = join(plan.folder, record.name)
            with findings.told(url, _AGAIN):
                expect(stem in stems, "the plan knows no such shard")
                found[ShardName(batch, stem)] = record
                _check_shard(findings, plan, stem, record)
    return found


def _plan(findings: Findings, batch: str) -> Plan | None:
    """The plan, if plan.json and its rows are what was frozen."""

    def genuine() -> Plan:
        plan = there(find_plan(findings.root, batch), "there is none, or none that can be read")
        data = read_bytes(url)
        text = json.dumps(json.loads(data), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        expect(data == text.encode(), "it is not written as Nightcap writes plans")
        return plan

    def whole(plan: Plan) -> Plan:
        if not findings.quick:
            _check_plan_rows(plan)
        findings.files += 2
        return plan

    url = join(findings.root.shards(batch), FILE)
    beside = listing(findings.root.shards(batch))
    if FILE not in beside and not any(stem_of(name) for name in beside):
        return None  # cut off before it was planned: nothing is lost
    plan = findings.attempt(url, _PLAN, genuine)
    return plan and findings.attempt(plan.data_url, _PLAN, lambda: whole(plan))


def _check_plan_rows(plan: Plan) -> None:
    with open_read(plan.data_url) as file:
        expect(
            sha256_stream(file) == plan.data_sha256, "its bytes are not those that plan.json names"
        )
    expect(read_schema(plan.data_url).equals(PLAN), "its columns are not those of a plan")
    rows, stems = 0, set()
    for table in read(plan.data_url, ["stem"]):
        planned = table["stem"].drop_null()
        rows += len(planned)
        stems.update(pc.unique(planned).to_pylist())
    expect(rows == plan.n_rows, f"it has {rows} pictures, not the {plan.n_rows} of plan.json")
    expect(len(stems) == plan.n_shards, f"it has {len(stems)} shards, not {plan.n_shards}")


def _check_shard(findings: Findings, plan: Plan, stem: str, record: Recorded) -> None:
    """Files first; what is in them is compared only if they are what the receipt names."""
    receipt = record.receipt
    names = [file.url.rpartition("/")[2] for file in receipt.files]
    own = [] if plan.kind == "tars" else [f"{stem}.tar"]
    expect(names == [*own, f"{stem}.parquet"], f"it names the files {names}")
    expect(bool(receipt.inputs) == (plan.kind == "tars"), "its inputs are not those of its plan")
    sound = [findings.sound(facts, _AGAIN) for facts in (*receipt.files, *receipt.inputs)]
    if findings.quick or not all(sound):
        return
    index = findings.root.absolute(receipt.files[-1].url)
    schema = read_schema(index)
    expect(schema.equals(INDEX), "its index has not the columns of an index")
    expect(facts_of(schema) == facts_of(with_facts(INDEX, {})), "its index is of another version")
    tally = RowTally()
    for table in read(index):
        tally.take(table)
    tally.close(receipt)
    if plan.kind != "tars":
        _check_paths(plan, stem, index)
    _check_pictures(findings, plan.shard(stem))
    findings.rows += receipt.rows


def _check_paths(plan: Plan, stem: str, index: str) -> None:
    paths = chain.from_iterable(table["path"].to_pylist() for table in read(index, ["path"]))
    planned = [row.path for row in plan.rows(stem)]
    expect(list(paths) == planned, "its index holds other pictures than its plan")


def _check_pictures(findings: Findings, shard: ShardName) -> None:
    """Every row's bytes against its hash; the join proves the members' names and order."""
    for sample in ShardStore(findings.root).samples(shard):
        named = sample.row["sha256"]
        if sample.image is None:
            expect(named is None, f"the picture {sample.key!r} has a hash but no bytes")
            continue
        fits = hashlib.sha256(sample.image).hexdigest() == named
        if not (fits and len(sample.image) == sample.row["n_bytes"]):
            raise ShardError(f"the bytes of picture {sample.key!r} are not those of its row")
