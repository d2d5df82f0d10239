"""Verifies what sums a run up: manifest against receipts, the rest against `_SUCCESS`."""

import hashlib
import json
from typing import Any

from storage.errors import SchemaError, ShardError
from storage.outputs import OutputStore
from storage.run_summary import DERIVED, is_sealed, manifest_of, seal
from storage.settled import Settled
from storage.urls import join, listing, read_bytes
from storage.verify_findings import Findings
from storage.verify_rows import expect

_SUM_UP = "remove `_SUCCESS` there and run `nightcap caption` again: it is summed up anew"


def check_seal(findings: Findings, settled: Settled, store: OutputStore, complete: bool) -> None:
    """What sums the run up says what the receipts say, and `_SUCCESS` vouches for it."""
    root, home = findings.root, findings.root.run(settled.name)
    url = join(home, "_SUCCESS")
    if not is_sealed(root, settled):
        if complete and store.batches():
            findings.breach(url, "it is missing though every shard is captioned", _SUM_UP)
        return
    manifest = manifest_of(store, settled)
    with findings.told(join(home, "manifest.json"), _SUM_UP):
        expect(_json(join(home, "manifest.json")) == manifest, "it names other files than receipts")
    rows = sum(file["rows"] for file in manifest["files"])
    with findings.told(url, _SUM_UP):
        said = _json(url).get("files")
        if not isinstance(said, dict):
            raise SchemaError("it does not vouch for the files beside it")
        for name in DERIVED:
            data = read_bytes(join(home, name))
            if hashlib.sha256(data).hexdigest() != said.get(name):
                findings.breach(join(home, name), "it is not what `_SUCCESS` vouches for", _SUM_UP)
        expect(read_bytes(url) == seal(root, settled, manifest, rows), "it was edited")
        findings.files += 1 + len(DERIVED)
    _check_glob(findings, store, manifest)


def _check_glob(findings: Findings, store: OutputStore, manifest: dict[str, Any]) -> None:
    """Once a run is sealed, a plain glob gives its rows and no others."""
    root = findings.root
    named = {file["url"] for file in manifest["files"]}
    for batch in store.batches():
        for name in listing(store.batch(batch)):
            file = join(store.batch(batch), name)
            if name.endswith(".parquet") and root.relative(file) not in named:
                findings.breach(file, "no receipt names it", "remove it, or run `nightcap gc`")


def _json(url: str) -> dict[str, Any]:
    try:
        body = json.loads(read_bytes(url))
    except (ValueError, RecursionError) as error:
        raise ShardError("it is no JSON") from error
    expect(isinstance(body, dict), "it is no JSON object")
    found: dict[str, Any] = body
    return found
