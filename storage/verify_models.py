"""Verifies models against their receipts, and what curations and duplicates say of their files."""

import json

from storage.fingerprint import sha256_stream
from storage.layout import Root
from storage.models import STAGE, model_settings
from storage.parquet import read
from storage.urls import folders, join, open_read, read_bytes
from storage.verify_findings import Findings, Mark, files_below
from storage.verify_outputs import proven_settings
from storage.verify_rows import expect

_MEND = "restore it from a copy, or remove its folder and receipt and train again"


def check_models(findings: Findings) -> None:
    """Look at every version of every model."""
    root = findings.root
    for name in folders(join(root.url, "models")):
        settings, home = model_settings(root, name), root.model(name)
        marks = {
            version: settled.fingerprint
            for version in folders(home)
            if (settled := proven_settings(findings, settings, version))
        }
        mark = Mark(STAGE, name, lambda stem, marks=marks: marks.get(stem, ""), _MEND)  # type: ignore[misc]
        receipts = findings.receipts(home, mark)
        for record in receipts.values():
            for facts in record.receipt.files:
                findings.sound(facts, _MEND)
        for version in folders(home):
            files = receipts[version].receipt.files if version in receipts else ()
            named = {facts.url for facts in files}
            _check_strangers(findings, root, root.model(name, version), named)


def check_extras(findings: Findings) -> None:
    """Look at curations, duplicates and quarantine: derived, yet worth reading whole."""
    for part in ("curations", "duplicates", "quarantine"):
        for url in files_below(join(findings.root.url, part)):
            with findings.told(url, "make it again, it is derived"):
                if url.endswith(".parquet"):
                    for _ in read(url):
                        pass
                if url.endswith(".json"):
                    _check_named(findings, url)


def _check_strangers(findings: Findings, root: Root, home: str, named: set[str]) -> None:
    """A file that no receipt vouches for has no business in a model's folder."""
    own = join(home, "settings.json")
    for url in files_below(home):
        if url == own or url.startswith(join(home, "checkpoints") + "/"):
            continue
        if root.relative(url) not in named:
            findings.breach(url, "no receipt names it", "remove it, or train again to finish it")


def _check_named(findings: Findings, url: str) -> None:
    """The hashes that a JSON file gives for the files beside it."""
    try:
        body = json.loads(read_bytes(url))
    except ValueError:
        body = None
    expect(isinstance(body, dict), "it is no JSON object")
    for name, sha256 in dict(body.get("files") or {}).items():
        with open_read(join(url.rpartition("/")[0], name)) as file:
            if sha256_stream(file) != sha256:
                beside = join(url.rpartition("/")[0], name)
                findings.breach(
                    beside, "its bytes are not those that were written", "make it again"
                )
    findings.files += 1
