"""The files that sum a run up, written when every shard is done, and only if something changed."""

import json
from typing import Any

import duckdb
import pyarrow as pa

from storage.captions import caption_store, caption_tables
from storage.commit import remove, replace
from storage.fingerprint import canonical, fingerprint
from storage.layout import Root
from storage.outputs import OutputStore
from storage.schema import CAPTIONS
from storage.settled import Settled
from storage.urls import join, listing, read_bytes, stat


def unseal(root: Root, settled: Settled) -> None:
    """Take `_SUCCESS` away before rows are added."""
    remove(join(root.run(settled.name), "_SUCCESS"))


def finalise(root: Root, settled: Settled) -> dict[str, Any]:
    """Sum the run up in manifest.json, stats.json, README.md and `_SUCCESS`; returns the stats.

    Call it once every shard is done: data that no receipt names is removed first. Nothing is
    written where nothing has changed.
    """
    store = caption_store(root, settled)
    manifest = _manifest(store, settled)
    stats = statistics(store)
    home = root.run(settled.name)
    _write(join(home, "manifest.json"), manifest)
    _write(join(home, "stats.json"), stats)
    _replace_if_other(join(home, "README.md"), _readme(settled, stats).encode())
    _sweep(store)
    _write(join(home, "_SUCCESS"), {"manifest": fingerprint(manifest), "rows": stats["rows"]})
    return stats


def is_sealed(root: Root, settled: Settled) -> bool:
    """Whether the run was summed up after its last rows were added."""
    return stat(join(root.run(settled.name), "_SUCCESS")) is not None


def read_stats(root: Root, settled: Settled) -> dict[str, Any]:
    """What `finalise` returned when the run was sealed."""
    stats: dict[str, Any] = json.loads(read_bytes(join(root.run(settled.name), "stats.json")))
    return stats


def statistics(store: OutputStore) -> dict[str, Any]:
    """Counts and score quantiles of a run, streamed from its files."""
    columns = ["status", "error_code", "clip_sim", "n_tokens", "caption_logprob"]
    schema = pa.schema([CAPTIONS.field(column) for column in columns])
    batches = (batch for table in caption_tables(store, columns) for batch in table.to_batches())
    rows = pa.RecordBatchReader.from_batches(schema, batches)
    with duckdb.connect(config={"threads": 1}) as database:
        database.register("rows", rows)
        database.execute("create table kept as select * from rows")
        total, captioned = _one(
            database, "select count(*), count(*) filter (status = 'ok') from kept"
        )
        failures = database.execute(
            "select error_code, count(*) from kept where status = 'error' group by 1 order by 1"
        ).fetchall()
        quantiles = {
            column: _quantiles(database, column)
            for column in ("clip_sim", "n_tokens", "caption_logprob")
        }
    return {
        "rows": total,
        "captioned": captioned,
        "failed": total - captioned,
        "failures": dict(failures),
        "quantiles": quantiles,
    }


def samples(root: Root, settled: Settled, count: int = 5) -> list[dict[str, Any]]:
    """Path, caption and score of a few captioned rows, spread over the run's first shard."""
    store = caption_store(root, settled)
    for table in caption_tables(store, ["path", "key", "caption", "clip_sim"]):
        rows = [row for row in table.to_pylist() if row["caption"] is not None]
        if rows:
            step = max(1, len(rows) // count)
            return rows[::step][:count]
    return []


def _quantiles(database: duckdb.DuckDBPyConnection, column: str) -> dict[str, float] | None:
    points = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
    (values,) = _one(
        database,
        f"select quantile_cont({column}::double, {points}) from kept",  # noqa: S608 - our names
    )
    if values is None:
        return None
    return {f"p{round(point * 100)}": value for point, value in zip(points, values, strict=True)}


def _one(database: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = database.execute(query).fetchone()
    return tuple(row or ())


def _manifest(store: OutputStore, settled: Settled) -> dict[str, Any]:
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


def _sweep(store: OutputStore) -> None:
    for batch in store.batches():
        named = {
            record.receipt.files[0].url.rsplit("/", 1)[-1]
            for record in store.receipts(batch).values()
        }
        for name in listing(store.batch(batch)):
            if name.endswith(".parquet") and name not in named:
                remove(join(store.batch(batch), name))


def _write(url: str, body: dict[str, Any]) -> None:
    pretty = json.dumps(json.loads(canonical(body)), indent=1, ensure_ascii=False) + "\n"
    _replace_if_other(url, pretty.encode())


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
    )
