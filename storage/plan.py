"""The frozen listing of one ingest: which pictures, in which shards, decided once.

A plan is two files: its rows under a content-addressed name, then `plan.json` by create-if-absent,
which makes it stand. Whoever comes later uses the standing plan and never lists again.
"""

import json
import logging
import os.path
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pyarrow.compute as pc

from storage.commit import create, remove, replace, scratch
from storage.errors import ConfigurationError, ShardError
from storage.fingerprint import fingerprint
from storage.layout import Root, plain_name
from storage.made import is_finished, receipts_of
from storage.parquet import encode, read
from storage.plan_file import (
    FILE,
    FORMAT,
    Plan,
    ShardOptions,
    find_plan,
    read_plan,
    read_plans,
    shard_fingerprint,
)
from storage.plan_rows import PLAN, Earlier, Frozen, PlanRow, known_rows
from storage.schema import SCHEMA_VERSION
from storage.sources import Source
from storage.sources.tree import GONE
from storage.stems import Stems
from storage.urls import is_local, join, redact

__all__ = [
    "Plan",
    "PlanRow",
    "ShardOptions",
    "plan_new",
    "read_plan",
    "read_plans",
    "shard_fingerprint",
    "unfinished",
]

_log = logging.getLogger(__name__)


def unfinished(root: Root, source: Source, options: ShardOptions | None = None) -> list[Plan]:
    """Plans of this source that lack receipts, oldest first; those of others get a warning.

    So do those that were planned with other `options`: they go on with their own.
    """
    found = [plan for plan in read_plans(root) if not is_finished(root, plan)]
    for plan in found:
        if plan.source != source.facts:
            _log.warning(
                "batch %s, planned from %r, is unfinished: run with that source to finish it",
                plan.batch,
                plan.source["source"],
            )
        elif options and plan.options != options:
            _log.warning(
                "batch %s is unfinished and goes on with the options it was planned with: %s",
                plan.batch,
                asdict(plan.options),
            )
    return [plan for plan in found if plan.source == source.facts]


def plan_new(
    root: Root, source: Source, options: ShardOptions, batch: str | None = None
) -> Plan | None:
    """Freeze what no earlier plan has, or has with another size or stamp; None if that is nothing.

    Only plans of the same folder count: in another one a path means another file. A batch that
    exists gives its name to `-2`, `-3`, … if its source and options are the same; if not, that is
    a ConfigurationError.
    """
    earlier = read_plans(root)
    name = _free_name(earlier, batch, source, options)
    known = known_rows(_earlier_rows(root, earlier, source))
    with scratch() as folder:
        stems = Stems(options.samples_per_shard, tars=source.kind == "tars")
        frozen = Frozen(source.items(), known, stems)
        encoded = encode(frozen.tables(), PLAN, folder / "plan.parquet")
        if not frozen.rows:
            return None
        data = f"plan-{encoded.sha256[:16]}.parquet"
        body = {
            "batch": name,
            "sequence": earlier[-1].sequence + 1 if earlier else 0,
            "source": source.facts,
            "base": _base(source),
            "options": asdict(options),
            "passed_over": source.counted,
            "data": data,
            "data_sha256": encoded.sha256,
            "counts": dict(frozen.counts),
            "n_rows": frozen.rows,
            "n_shards": frozen.shards,
            "digest": _content(source, options, frozen),
        }
        replace(join(root.shards(name), data), encoded.path)
    return _stand(root, name, body)


def _earlier_rows(root: Root, plans: list[Plan], source: Source) -> Iterator[Earlier]:
    """The rows of plans that count for `source`, oldest first.

    Another source of the same folder, such as a pattern before it grew, counts once its plan is
    finished: with this source nobody would finish it.
    """
    base = _base(source)
    for plan in plans:
        ours = plan.source == source.facts
        if ours or (plan.base == base and is_finished(root, plan)):
            yield Earlier(plan.data_url, ours, _lost(root, plan))


def _lost(root: Root, plan: Plan) -> frozenset[str]:
    """Pictures that were not there when their shard was cut; if they are back, they are new."""
    lost: set[str] = set()
    for record in receipts_of(plan.folder).values():
        if not record.receipt.failures.get("missing_member"):
            continue
        try:
            for table in read(
                root.absolute(record.receipt.files[-1].url), ["path", "error_detail"]
            ):
                lost.update(table["path"].filter(pc.equal(table["error_detail"], GONE)).to_pylist())
        except ShardError:
            continue  # its index is lost, and it will be cut again
    return frozenset(lost)


def _base(source: Source) -> str:
    """The folder of `source`, the same however it was written; links are left as they are."""
    return os.path.normpath(source.base) if is_local(source.base) else redact(source.base)


def _stand(root: Root, batch: str, body: dict[str, Any]) -> Plan:
    """Make the plan stand, or yield to the one that another planner was quicker with."""
    body = {"format": FORMAT, **body}
    body["file_digest"] = fingerprint(body)
    text = (json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    url = join(root.shards(batch), FILE)
    if not create(url, text) and find_plan(root, batch) is None:
        replace(url, text)
    plan = read_plan(root, batch)
    if plan.data != body["data"]:
        remove(join(root.shards(batch), body["data"]))
    if (plan.source, asdict(plan.options)) != (body["source"], body["options"]):
        raise _other(plan)
    return plan


def _content(source: Source, options: ShardOptions, frozen: Frozen) -> str:
    facts = {"kind": source.kind, "options": asdict(options), "rows": frozen.digest}
    return fingerprint({"schema": SCHEMA_VERSION, **facts})


def _free_name(plans: list[Plan], batch: str | None, source: Source, options: ShardOptions) -> str:
    taken = {plan.batch: plan for plan in plans}
    if batch is None:
        numbers = [int(name) for name in taken if name.isdecimal()]
        return f"{max(numbers, default=-1) + 1:04}"
    name, number = plain_name(batch, "batch"), 2
    while name in taken:
        if (taken[name].source, taken[name].options) != (source.facts, options):
            raise _other(taken[name])
        name, number = f"{batch}-{number}", number + 1
    return name


def _other(plan: Plan) -> ConfigurationError:
    return ConfigurationError(
        f"batch {plan.batch!r} was planned from {plan.source['source']!r} with "
        f"{asdict(plan.options)}: give another --batch, or the same source and options"
    )
