"""What a run's captions are worth without references: exact counts, shares and quantiles.

A run is read once, a row group at a time. Memory holds a row group, a fixed sample of captions
and two numbers a shard; what grows with the rows (score columns, different captions) is on disk.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from storage.commit import scratch
from storage.errors import StorageError
from storage.outputs import OutputStore
from storage.parquet import read
from storage.quality_text import text_measures
from storage.quantiles import Spool
from storage.receipts import Receipt
from storage.sampling import Smallest, mark_of

SAMPLE = 10_000
"""Captions of a run whose wording is measured; more would change what distinct-n means."""
SHARD_SAMPLE = 1000
NUMBERS = ("clip_sim", "orig_clip_sim", "n_tokens", "caption_logprob")
_READ = ["key", "status", "error_code", "caption", *NUMBERS]
_CAPTION = pa.schema([pa.field("caption", pa.string())])
_MEMORY = "512MB"


def statistics(store: OutputStore) -> dict[str, Any]:
    """Counts, quantiles and measures of a run and of each shard, streamed from its files."""
    with scratch() as folder:
        found = _Found({name: Spool(folder / name) for name in NUMBERS})
        distinct, top = _captions(found.batches(store), folder)
        quantiles = {name: spool.quantiles() for name, spool in found.spools.items()}
        means = {name: _rounded(spool.mean()) for name, spool in found.spools.items()}
    captioned = found.rows - sum(found.failures.values())
    return {
        "rows": found.rows,
        "captioned": captioned,
        "failed": found.rows - captioned,
        "failures": dict(sorted(found.failures.items())),
        "quantiles": quantiles,
        "means": means,
        "top_caption": {**top, "share": _rounded(top["rows"] / captioned if captioned else 0.0)},
        "distinct_captions": distinct,
        "texts": text_measures(found.sample.things()),
        **alignment(found.sums),
        "shards": found.shards,
    }


def alignment(sums: Mapping[str, float]) -> dict[str, Any]:
    """What the sums of `tasks.units.candidates.Tally` come to; None where nothing was scored.

    `margin` is how much better captions fit their own pictures than the next ones, on average,
    and `margin_effect` the same in standard deviations.
    """
    rows, aligned, scored = (sums.get(name, 0) for name in ("rows", "aligned", "scored"))
    margin = sums["margin"] / aligned if aligned else None
    effect = None
    if margin is not None:
        spread = max(sums["squares"] / aligned - margin**2, 1e-12) ** 0.5
        effect = margin / spread
    gain = (sums["best"] - sums["first"]) / scored if scored else None
    return {
        "margin": _rounded(margin),
        "margin_effect": _rounded(effect),
        "unstopped_share": _rounded(sums["unstopped"] / rows if rows else None),
        "candidates_mean": _rounded(sums["candidates"] / rows if rows else None),
        "best_of_gain": _rounded(gain),
    }


@dataclass(slots=True)
class _Found:
    """What has been seen so far."""

    spools: dict[str, Spool]
    rows: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    sums: dict[str, float] = field(default_factory=dict)
    sample: Smallest[str] = field(default_factory=lambda: Smallest(SAMPLE))
    shards: dict[str, dict[str, Any]] = field(default_factory=dict)

    def batches(self, store: OutputStore) -> Iterator[pa.RecordBatch]:
        """The captions of every shard, all else counted on the way."""
        for batch in store.batches():
            for record in store.receipts(batch).values():
                yield from self._shard(store, record.receipt)

    def _shard(self, store: OutputStore, receipt: Receipt) -> Iterator[pa.RecordBatch]:
        sums: dict[str, float] = receipt.facts.get("quality", {})
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0) + value
        sample: Smallest[str] = Smallest(SHARD_SAMPLE)
        times: Counter[str] = Counter()
        before, score = self.rows, self.spools["clip_sim"]
        scored = (score.count, score.total)
        failures: Counter[str] = Counter()
        for table in read(store.root.absolute(receipt.files[0].url), _READ):
            self._count(table, failures)
            pairs = zip(table["key"].to_pylist(), table["caption"].to_pylist(), strict=True)
            said = [(mark_of(receipt.shard, key), text) for key, text in pairs if text is not None]
            times.update(text for _, text in said)
            for mark, text in said:
                sample.add(mark, text)
                self.sample.add(mark, text)
            yield from table.select(["caption"]).cast(_CAPTION).to_batches()
        number = score.count - scored[0]
        self.failures.update(failures)
        self.shards[receipt.shard] = {
            "rows": self.rows - before,
            "failures": dict(sorted(failures.items())),
            "clip_sim_mean": _rounded((score.total - scored[1]) / number if number else None),
            "top_caption_share": _rounded(max(times.values(), default=0) / max(1, times.total())),
            **alignment(sums),
            "texts": text_measures(sample.things()),
        }

    def _count(self, table: pa.Table, failures: Counter[str]) -> None:
        self.rows += table.num_rows
        failures.update(code for code in table["error_code"].to_pylist() if code)
        for name, spool in self.spools.items():
            values = pc.drop_null(table[name]).cast(pa.float32())
            spool.add(values.to_numpy())


def _captions(batches: Iterator[pa.RecordBatch], folder: Path) -> tuple[int, dict[str, Any]]:
    """How many different captions there are, and the most frequent, the last by text if several."""
    settings: dict[str, Any] = {"threads": 1, "memory_limit": _MEMORY}
    settings["temp_directory"] = str(folder)
    trouble: list[StorageError] = []
    rows = pa.RecordBatchReader.from_batches(_CAPTION, _noting(batches, trouble))
    with duckdb.connect(config=settings) as database:
        database.register("rows", rows)
        try:
            found = database.execute(
                "select count(*), max({'n': n, 'caption': caption}) from (select caption, "
                "count(*) as n from rows where caption is not null group by caption)"
            ).fetchone()
        except duckdb.Error as error:
            if not trouble:
                raise
            raise trouble[0] from error
    number, top = found or (0, None)
    return number, {"caption": top and top["caption"], "rows": top["n"] if top else 0}


def _noting(
    batches: Iterator[pa.RecordBatch], trouble: list[StorageError]
) -> Iterator[pa.RecordBatch]:
    """The batches; what goes wrong is kept, because DuckDB makes a text of it."""
    try:
        yield from batches
    except StorageError as error:
        trouble.append(error)
        raise


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
