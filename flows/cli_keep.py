"""The commands that keep a root sound: verify, gc and retry-failed."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.choices import (
    JsonFlag,
    LanesNumber,
    ModelEncoder,
    RootUrl,
    RunName,
    Timeout,
    on_lanes,
)

if TYPE_CHECKING:
    from storage.garbage import Garbage
    from storage.verify import Verdict

keeping = typer.Typer()
MIB = 1 << 20
Quick = Annotated[
    bool, typer.Option("--quick", help="Look at receipts and sizes alone, not into any file.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Remove it; without this it is only told.")]
OlderThan = Annotated[
    float, typer.Option(min=0, help="Hours; what is younger may be somebody's half-made work.")
]

Codes = Annotated[
    str,
    typer.Option("--code", help="Error codes, as in timeout,corrupt; by default what may pass."),
]
MaxAttempts = Annotated[
    int, typer.Option(min=1, help="Shards that were tried so often are let be.")
]


@keeping.command()
def verify(root: RootUrl, quick: Quick = False, as_json: JsonFlag = False) -> None:
    """Prove ROOT from its files alone: every receipt, hash, row count, key and picture."""
    from flows.progress import Display, stage_begins, stage_ends
    from storage.verify import verify as prove

    began = time.perf_counter()
    with Display():
        stage_begins("verify", 0, 0)
        verdict = prove(root, _told, quick=quick)
        stage_ends("verify")
    seconds = time.perf_counter() - began
    if as_json:
        typer.echo(json.dumps(verdict_facts(root, verdict, seconds), ensure_ascii=False))
    else:
        _show(verdict, seconds)
    if not verdict.ok:
        raise SystemExit(1)


def _told(files: int, size: int) -> None:
    from tasks.progress import tick

    tick("verify", files=files, MiB=size / MIB)


def verdict_facts(root: str, verdict: "Verdict", seconds: float) -> dict[str, Any]:
    """What `--json` prints."""
    breaches = [{"url": one.url, "what": one.what, "mend": one.mend} for one in verdict.breaches]
    return {
        "command": "verify",
        "ok": verdict.ok,
        "root": root,
        "seconds": round(seconds, 3),
        "files": verdict.files,
        "bytes": verdict.bytes,
        "rows": verdict.rows,
        "unfinished": verdict.unfinished,
        "breaches": breaches,
    }


def _show(verdict: "Verdict", seconds: float) -> None:
    for one in verdict.breaches:
        typer.echo(f"breach: {one.sentence}")
    for work in verdict.unfinished:
        typer.echo(f"unfinished: {work}")
    found = f"{len(verdict.breaches)} breaches" if verdict.breaches else "nothing is wrong"
    typer.echo(
        f"{verdict.files} files ({verdict.bytes / MIB:.1f} MiB) and {verdict.rows} rows "
        f"looked at in {seconds:.1f} s: {found}"
    )


@keeping.command()
def gc(
    root: RootUrl, yes: Yes = False, older_than: OlderThan = 24.0, as_json: JsonFlag = False
) -> None:
    """Tell what lies under ROOT and is of no use, and remove it with --yes."""
    from storage.garbage import garbage, take_away
    from storage.layout import open_root
    from storage.lock import FILE
    from storage.urls import join, stat

    place = open_root(root)
    lock = stat(join(place.url, FILE))
    now = lock.changed if lock else time.time()  # our lock was just made: the store's own clock
    found = garbage(place, older_than * 3600, now)
    if yes:
        take_away(found)
    if as_json:
        typer.echo(json.dumps(garbage_facts(root, found, removed=yes), ensure_ascii=False))
    else:
        _show_garbage(found, removed=yes)


@keeping.command("retry-failed")
def retry_failed(
    root: RootUrl,
    run: RunName = "",
    encoder: ModelEncoder = "",
    code: Codes = "",
    max_attempts: MaxAttempts = 3,
    lanes: LanesNumber = 1,
    timeout: Timeout = 3600.0,
    as_json: JsonFlag = False,
) -> None:
    """Try pictures again that failed for a reason that may be gone; caption what is mended next."""
    from flows.retry import RetryOptions
    from flows.retry import retry_failed as retry
    from storage.retrying import parse_codes

    options = RetryOptions(
        codes=parse_codes(code), max_attempts=max_attempts, run=run, encoder=encoder
    )
    facts = retry(root, options, on_lanes(lanes, timeout))
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _show_retried(facts)
    if not facts["ok"]:
        raise SystemExit(1)


def _show_retried(facts: dict[str, Any]) -> None:
    for shard, one in facts["shards"].items():
        typer.echo(f"{shard}: {one['tried']} tried again, {one['left']} still failed")
    for shard, why in facts["failed_shards"].items():
        typer.echo(f"failed: {shard}: {why}")
    typer.echo(f"{facts['mended']} of {facts['tried']} pictures mended")
    if facts["mended"]:
        typer.echo("run `nightcap run` or `nightcap caption` again: it captions their shards anew")


def garbage_facts(root: str, found: "list[Garbage]", *, removed: bool) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "command": "gc",
        "ok": True,
        "root": root,
        "removed": removed,
        "count": len(found),
        "bytes": sum(one.size for one in found),
        "garbage": [{"kind": one.kind, "url": one.url, "bytes": one.size} for one in found],
    }


def _show_garbage(found: "list[Garbage]", *, removed: bool) -> None:
    from storage.garbage import KINDS

    for one in found:
        typer.echo(f"{KINDS[one.kind]}: {one.url} ({one.size} bytes)")
    size = sum(one.size for one in found)
    verb = "removed" if removed else "to remove (add --yes)"
    typer.echo(
        f"{len(found)} things, {size / MIB:.1f} MiB {verb}" if found else "nothing to remove"
    )
