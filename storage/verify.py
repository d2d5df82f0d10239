"""Proves a root from its files alone: whatever a receipt, plan or seal says is looked at again.

Neither times nor listings are believed: each file that something names is read whole, hashed, and
compared with what stands beside it. Memory holds a row group, a picture, and a line for each file.
"""

from dataclasses import dataclass

from storage.layout import open_root
from storage.verify_edits import check_edits
from storage.verify_findings import Breach, Findings, Report
from storage.verify_models import check_extras, check_models
from storage.verify_outputs import check_captions, check_embeddings
from storage.verify_shards import check_shards

__all__ = ["Breach", "Verdict", "verify"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a verification."""

    breaches: list[Breach]
    unfinished: list[str]
    """Work that was never done; not a breach."""
    files: int
    """Read and hashed."""
    bytes: int
    rows: int
    """Rows of captions, embeddings and indexes compared."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.breaches


def verify(
    root: str, report: Report = lambda _files, _bytes: None, *, quick: bool = False
) -> Verdict:
    """Look at everything under `root`; `report` is told how far it is.

    `quick` looks at receipts, settings, sizes and seals, and at no row, picture or hash.
    """
    findings = Findings(open_root(root), report, quick=quick)
    shards = check_shards(findings)
    spaces = check_embeddings(findings, shards)
    check_models(findings)
    check_captions(findings, spaces)
    check_edits(findings)
    if not quick:
        check_extras(findings)
    return Verdict(
        breaches=sorted(findings.breaches.values(), key=lambda one: one.url),
        unfinished=findings.unfinished,
        files=findings.files,
        bytes=findings.bytes,
        rows=findings.rows,
    )
