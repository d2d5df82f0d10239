"""The files that sum a run up, written when every shard is done, and only if something changed."""

import hashlib
import json
from typing import Any

from storage.captions import caption_store, caption_tables
from storage.commit import remove, replace
from storage.fingerprint import canonical, fingerprint
from storage.layout import Root
from storage.outputs import OutputStore
from storage.quality import statistics
from storage.quality_alarms import alarms
from storage.settled import Settled
from storage.urls import folders, join, read_bytes, stat

DERIVED = ("manifest.json", "stats.json", "README.md")
"""What sums a run up, beside `_SUCCESS` that vouches for them."""


def unseal(root: Root, settled: Settled) -> None:
    """Take `_SUCCESS` away before rows are added."""
    remove(join(root.run(settled.name), "_SUCCESS"))


def finalise(root: Root, settled: Settled) -> dict[str, Any]:
    """Sum the run up in manifest.json, stats.json, README.md and `_SUCCESS`; returns the stats.

    Call it once every shard is done: data that no receipt names is removed first. Nothing is
    written where nothing has changed.
    """
    store = caption_store(root, settled)
    manifest = manifest_of(store, settled)
    home = root.run(settled.name)
    stats = {"run": settled.name, "scorer": settled.resolved.get("scorer", "")}
    stats |= statistics(store)
    previous = _previous(root, settled)
    stats["compared_with"] = previous["run"] if previous else None
    stats["alarms"] = alarms(stats, previous)
    _write(join(home, "manifest.json"), manifest)
    _write(join(home, "stats.json"), stats)
    _replace_if_other(join(home, "README.md"), _readme(settled, stats).encode())
    store.sweep()
    _replace_if_other(join(home, "_SUCCESS"), seal(root, settled, manifest, stats["rows"]))
    return stats


def seal(root: Root, settled: Settled, manifest: dict[str, Any], rows: int) -> bytes:
    """The content of `_SUCCESS`: it vouches for the files that sum the run up."""
    home = root.run(settled.name)
    digests = {name: hashlib.sha256(read_bytes(join(home, name))).hexdigest() for name in DERIVED}
    return _pretty({"manifest": fingerprint(manifest), "rows": rows, "files": digests})


def is_sealed(root: Root, settled: Settled) -> bool:
    """Whether the run was summed up after its last rows were added."""
    return stat(join(root.run(settled.name), "_SUCCESS")) is not None


def read_stats(root: Root, settled: Settled) -> dict[str, Any]:
    """What `finalise` returned when the run was sealed."""
    stats: dict[str, Any] = json.loads(read_bytes(join(root.run(settled.name), "stats.json")))
    return stats


def samples(root: Root, settled: Settled, count: int = 5) -> list[dict[str, Any]]:
    """Path, caption and score of a few captioned rows, spread over the run's first shard."""
    store = caption_store(root, settled)
    for table in caption_tables(store, ["path", "key", "caption", "clip_sim"]):
        rows = [row for row in table.to_pylist() if row["caption"] is not None]
        if rows:
            step = max(1, len(rows) // count)
            return rows[::step][:count]
    return []


def _previous(root: Root, settled: Settled) -> dict[str, Any] | None:
    """The statistics of the run before: the one compared with last time, else the newest other."""
    url = "{}/stats.json".format
    names = [name for name in folders(join(root.url, "captions")) if name != settled.name]
    written = {name: stat(url(root.run(name))) for name in names}
    newest = sorted((there.changed, name) for name, there in written.items() if there)
    before = _read(url(root.run(settled.name))).get("compared_with")
    for name in [before, *(name for _, name in reversed(newest))]:
        if name in written and "texts" in (found := _read(url(root.run(name)))):
            return found
    return None


def _read(url: str) -> dict[str, Any]:
    """The JSON object at `url`, empty where there is none."""
    try:
        body = json.loads(read_bytes(url))
    except (FileNotFoundError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def manifest_of(store: OutputStore, settled: Settled) -> dict[str, Any]:
    """The files of the run as its receipts name them."""
    files = [
        {
            "shard": record.receipt.shard,
            "url": record.receipt.files[0].url,
            "rows": record.receipt.rows,
            "size": record.receipt.files[0].size,
            "sha256": record.receipt.files[0].sha256,
        }
        for batch in store.batches()
        for record in store.receipts(batch).values()
    ]
    return {"run": settled.name, "fingerprint": settled.fingerprint, "files": files}


def _write(url: str, body: dict[str, Any]) -> None:
    _replace_if_other(url, _pretty(body))


def _pretty(body: dict[str, Any]) -> bytes:
    return (json.dumps(json.loads(canonical(body)), indent=1, ensure_ascii=False) + "\n").encode()


def _replace_if_other(url: str, data: bytes) -> None:
    try:
        if read_bytes(url) == data:
            return
    except FileNotFoundError:
        pass
    replace(url, data)


def _readme(settled: Settled, stats: dict[str, Any]) -> str:
    failures = ", ".join(f"{code} {count}" for code, count in stats["failures"].items()) or "none"
    model = settled.resolved.get("model", "unknown")
    return (
        f"# Captions `{settled.name}`\n\n"
        f"{stats['rows']} rows, {stats['captioned']} captioned, {stats['failed']} failed "
        f"({failures}).\n\nWritten by Nightcap with the model `{model}`; run.json holds every "
        "setting. Each row is a picture; `<batch>/*.parquet` is the data, joined to its shard by "
        "(shard, key) and to the picture's bytes by sha256.\n"
        + "".join(f"\nAlarm `{one['alarm']}`: {one['says']}.\n" for one in stats["alarms"])
    )
