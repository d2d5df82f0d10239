"""The dataset card: what a hub shows of an exported run, every text of others made harmless."""

import json
import re
import shlex
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from storage.errors import ShardError
from storage.export_parquet import Seen, quantiles
from storage.layout import Root
from storage.parquet import read_schema
from storage.run_summary import read_stats
from storage.schema import ERROR_CODES, facts_of
from storage.settled import Settled
from storage.urls import read_bytes

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
         (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
         (1 << 62, "n>1B"))  # fmt: skip
_MARKUP = re.compile(r"([\\`*_\[\]|~#$])")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]+")


def card(root: Root, settled: Settled, seen: Seen, ids: str, options: dict[str, str]) -> str:
    """README.md of the exported rows; `ids` is the URL of the list that chose them.

    `options` are `license`, `title`, and `ids_sha256`.
    """
    resolved, stats = settled.resolved, _stats(root, settled)
    found = quantiles(seen)
    failed = sum(seen.failures.values())
    environment = Environment(
        loader=PackageLoader("storage"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - this is no HTML: `md` makes texts harmless
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": plain, "code": _code}
    title = options["title"] or f"Captions by {resolved.get('model', 'unknown')}"
    return environment.get_template("card.md.j2").render(
        header=_header(title, seen.rows, options["license"]),
        title=title,
        rows=seen.rows,
        captioned=seen.rows - failed,
        failed=failed,
        failures=dict(sorted(seen.failures.items())),
        codes=ERROR_CODES,
        version=_version(),
        model=str(resolved.get("model", "unknown")),
        license=options["license"],
        parts=seen.parts,
        provenance=provenance(settled),
        quantiles=found,
        points=list(next(iter(found.values()), {})),
        scorer=str(resolved.get("scorer") or ""),
        waterfall=waterfall_beside(ids),
        ids=options["ids_sha256"],
        samples=seen.samples.things(),
        alarms=stats.get("alarms", []),
        commands=_commands(settled, ids),
        run=settled.name,
        fingerprint=settled.fingerprint,
    )


def plain(text: object, longest: int = 1000) -> str:
    """`text` as Markdown shows it letter for letter on one line of a table, cut if it is long."""
    shown = _CONTROLS.sub(" ", str(text))
    if len(shown) > longest:
        shown = f"{shown[:longest]}… ({len(shown)} characters)"
    shown = shown.replace("&", "&amp;").replace("<", "&lt;")
    return _MARKUP.sub(r"\\\1", shown).replace("://", ":\u200b//")  # no link is made of it


def provenance(settled: Settled) -> list[tuple[str, str]]:
    """What made the captions, as name and value."""
    resolved = settled.resolved
    decoding = {k: v for k, v in resolved.get("decoding", {}).items() if k != "stop_ids"}
    facts = {
        "model": resolved.get("model"),
        "weights (sha256)": resolved.get("weights"),
        "scorer": resolved.get("scorer") or "none",
        "embeddings": resolved.get("embeddings", {}).get("space"),
        "decoding": ", ".join(f"{name} {value}" for name, value in decoding.items()),
        "numerics": ", ".join(f"{k} {v}" for k, v in resolved.get("numerics", {}).items()),
        "run": settled.name,
        "fingerprint": settled.fingerprint,
    }
    return [(name, str(value)) for name, value in facts.items() if value]


def waterfall_beside(ids: str) -> dict[str, Any] | None:
    """The waterfall.json that lies beside an id list and was made with it, if it is one."""
    if not ids:
        return None
    try:
        body = json.loads(read_bytes(f"{ids.rpartition('/')[0] or '.'}/waterfall.json"))
        made_with = facts_of(read_schema(ids)).get("fingerprint")
    except (FileNotFoundError, ValueError, ShardError):
        return None
    fits = isinstance(body, dict) and body.get("fingerprint") == made_with
    return body if fits else None


def _header(title: str, rows: int, license_id: str) -> str:
    size = next(name for limit, name in SIZES if rows < limit)
    facts = {
        "license": license_id,
        "pretty_name": title,
        "language_creators": ["machine-generated"],
        "annotations_creators": ["machine-generated"],
        "task_categories": ["image-to-text"],
        "size_categories": [size],
        "tags": ["image-captions", "nightcap"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/*.parquet"}],
            }
        ],
    }
    return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)


def _code(text: object) -> str:
    """`text` inside backticks."""
    return _CONTROLS.sub(" ", str(text)).replace("`", "'").replace("|", "\\|")


def _stats(root: Root, settled: Settled) -> dict[str, Any]:
    try:
        return read_stats(root, settled)
    except (FileNotFoundError, ValueError):
        return {}


def _commands(settled: Settled, ids: str) -> list[str]:
    """What to type to make such a dataset again; places are named, not told."""
    decoding = dict(settled.resolved.get("decoding", {}))
    words = ["nightcap", "run", "SOURCE", "ROOT", "--model", settled.resolved.get("model", "M")]
    options = {"strategy": "--decode", "n": "--samples", "seed": "--sample-seed",
               "max_tokens": "--max-tokens"}  # fmt: skip
    for name, option in options.items():
        if decoding.get(name) is not None:
            words += [option, decoding.pop(name)]
    for name, value in decoding.items():
        if name != "stop_ids" and value is not None:
            words += ["--set", f"{name}={value}"]
    words += ["--run", settled.name]
    commands = [words]
    waterfall = waterfall_beside(ids)
    out = ["nightcap", "export", "ROOT", "OUT", "--to", "parquet", "--run", settled.name]
    if waterfall:
        recipe = waterfall["recipe"]
        commands.append(["nightcap", "curate", "ROOT", "--run", settled.name, "--recipe", recipe,
                         "--out", "CHOSEN"])  # fmt: skip
    chosen = ["--ids", "CHOSEN/ids.parquet"] if ids else []
    return [shlex.join(map(str, command)) for command in [*commands, [*out, *chosen]]]


def _version() -> str:
    try:
        return version("nightcap")
    except PackageNotFoundError:
        return "(not installed)"
