"""Verifies embeddings and captions: settings, receipts, files, and each row against its shard."""

from collections.abc import Callable, Iterator

import pyarrow as pa

from storage.captions import STAGE as CAPTIONING
from storage.captions import caption_store, run_settings
from storage.embedded import Offered, ShardRows
from storage.embeddings import embedding_file_schema, embedding_settings, embedding_store
from storage.layout import ShardName
from storage.outputs import OutputStore
from storage.parquet import read, read_schema
from storage.reading import embedding_source, run_space
from storage.receipts import Recorded, same_inputs
from storage.schema import CAPTIONS, facts_of
from storage.settled import SettingsFile, Settled
from storage.shards import ShardStore
from storage.stored import stored_settings
from storage.urls import folders, join, read_bytes, stat
from storage.verify_findings import Findings, Mark
from storage.verify_rows import (
    RowTally,
    check_captions_sound,
    check_embeddings_finite,
    check_handed_down,
    expect,
    side_by_side,
    there,
)
from storage.verify_seal import check_seal
from storage.verify_shards import Cut

_SETTINGS = "restore it from a copy, or remove its folder and run the stage again"
CheckRows = Callable[[str, Recorded], None]
"""Look at the rows at a URL; raises ShardError."""


def check_embeddings(findings: Findings, cut: Cut) -> set[str]:
    """Look at every space; the names of those whose settings can be believed."""
    root = findings.root
    shards, sound = ShardStore(root), set()
    offered = {
        name: Offered(name, record.receipt.rows, shards.inputs_from(record))
        for name, record in cut.items()
    }
    for name in folders(join(root.url, "embeddings")):
        if stat(join(root.url, "embeddings", name, stored_settings(root).file)):
            if proven_settings(findings, stored_settings(root), name):
                sound.add(name)
            continue
        settled = proven_settings(findings, embedding_settings(root), name)
        if settled is None:
            continue
        sound.add(name)
        store = embedding_store(root, settled)
        rows = _EmbeddingRows(findings, settled, cut)
        _check_store(findings, store, offered, rows.check)
    return sound


def check_captions(findings: Findings, spaces: set[str]) -> None:
    """Look at every run."""
    for name in folders(join(findings.root.url, "captions")):
        if settled := proven_settings(findings, run_settings(findings.root), name):
            url = join(findings.root.run(name), "run.json")
            with findings.told(url, "put back what it was made from, or remove the run"):
                _check_run(findings, settled, spaces)


def proven_settings(findings: Findings, settings: SettingsFile, name: str) -> Settled | None:
    """The settings of a folder if they are what was once settled."""

    def genuine() -> Settled:
        settled = there(settings.read(name), "it is missing")
        expect(settled.is_genuine(read_bytes(url)), "it was edited")
        findings.files += 1
        return settled

    url = join(settings.parent, name, settings.file)
    return findings.attempt(url, _SETTINGS, genuine)


def _check_run(findings: Findings, settled: Settled, spaces: set[str]) -> None:
    root = findings.root
    space = there(run_space(root, settled), "its embeddings are not here")
    if space.name not in spaces:
        return  # told already
    source = embedding_source(root, space)
    offered = {shard.name: shard for shard in source.offered()}
    store = caption_store(root, settled)

    def check(data: str, record: Recorded) -> None:
        shard = ShardName.parse(record.receipt.shard)
        _check_caption_rows(data, record, source.open(shard))

    unfinished = len(findings.unfinished)
    _check_store(findings, store, offered, check)
    check_seal(findings, settled, store, complete=len(findings.unfinished) == unfinished)


def _check_store(
    findings: Findings, store: OutputStore, offered: dict[ShardName, Offered], check: CheckRows
) -> None:
    """Every receipt of one space or run, and what it names."""
    done: set[ShardName] = set()
    mend = f"remove it and run `nightcap {store.stage}` again"
    for batch in store.batches():
        swept = store.stage == CAPTIONING
        mark = Mark(store.stage, batch, lambda _: store.fingerprint, mend, swept)
        for stem, record in sorted(findings.receipts(store.batch(batch), mark).items()):
            name = ShardName(batch, stem)
            done.add(name)
            with findings.told(join(store.batch(batch), record.name), mend):
                _check_output(findings, record, offered.get(name), mend, check)
    for name in sorted(set(offered) - done):
        findings.unfinished.append(f"{store.stage} {name} is not done")


def _check_output(
    findings: Findings, record: Recorded, offer: Offered | None, mend: str, check: CheckRows
) -> None:
    receipt = record.receipt
    stem = ShardName.parse(receipt.shard).stem
    made_from = there(offer, "what it was made from is not there, or has no receipt")
    expect(len(receipt.files) == 1, "it names not one file")
    name = receipt.files[0].url.rpartition("/")[2]
    expect(name == f"{stem}-{receipt.files[0].sha256[:16]}.parquet", f"it names the file {name!r}")
    same = same_inputs(receipt.inputs, made_from.inputs)
    expect(same, "it was made from other inputs than stand now")
    inputs = [
        findings.sound(facts, "put it back, or run its stage again") for facts in receipt.inputs
    ]
    if not (findings.sound(receipt.files[0], mend) and all(inputs)) or findings.quick:
        return
    check(findings.root.absolute(receipt.files[0].url), record)
    findings.rows += receipt.rows


class _EmbeddingRows:
    """Compares embeddings with the indexes of their shards."""

    def __init__(self, findings: Findings, settled: Settled, cut: Cut) -> None:
        self._root = findings.root
        self._cut = cut
        self._schema = embedding_file_schema(settled)

    def check(self, url: str, record: Recorded) -> None:
        """Every row of one shard."""
        _check_schema(url, self._schema)
        shard = self._cut[ShardName.parse(record.receipt.shard)].receipt
        columns = ["key", "sha256", "status", "error_code"]
        index = read(self._root.absolute(shard.files[-1].url), columns)
        tally = RowTally()
        for before, here in side_by_side(index, read(url)):
            tally.take(here)
            check_handed_down(before, here)
            check_embeddings_finite(here)
        tally.close(record.receipt)


def _check_caption_rows(url: str, record: Recorded, source: ShardRows) -> None:
    schema = read_schema(url)
    expect(schema.equals(CAPTIONS), "its columns are not those of captions")
    mark = facts_of(schema).get("fingerprint", record.receipt.fingerprint)
    expect(mark == record.receipt.fingerprint, "it was made with other settings")
    tally = RowTally()
    seen: list[pa.Table] = []

    def index() -> Iterator[pa.Table]:
        for shown, embedded in source:
            seen.append(embedded)
            yield shown

    for before, here in side_by_side(index(), read(url)):
        tally.take(here)
        check_handed_down(seen.pop(), here)
        check_captions_sound(here, record.receipt.shard)
        same = all(before[name].equals(here[name]) for name in ("path", "url"))
        expect(same, "a path or URL is not the one of its shard")
    tally.close(record.receipt)


def _check_schema(url: str, schema: pa.Schema) -> None:
    found = read_schema(url)
    expect(found.equals(schema), "its columns are not those of its settings")
    expect(facts_of(found) == facts_of(schema), "its metadata is not that of its settings")
