"""Finds the file that a user named: a local path, or hf://OWNER/REPOSITORY/PATH[@REVISION]."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.errors import ModelError

_HUB = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)/(?P<path>[^@]+?)(?:@(?P<revision>[^@]+))?")


@dataclass(frozen=True, slots=True)
class Found:
    """A file on this machine, and what may be told of where it came from."""

    path: Path
    origin: dict[str, str]
    """`file`, and from the hub `repository` and the `revision` it resolved to."""


def find(source: str, *, offline: bool = False) -> Found:
    """The file at `source`, fetched into the hub's cache where it must be; raises ModelError."""
    if source.startswith("hf://"):
        return _from_hub(source, offline=offline)
    if "://" in source:
        raise ModelError(
            f"A checkpoint is a local file or hf://OWNER/REPOSITORY/PATH, not {source!r}."
        )
    path = Path(source)
    return Found(path, {"file": path.name})


def _from_hub(source: str, *, offline: bool) -> Found:
    asked = _HUB.fullmatch(source)
    if asked is None:
        raise ModelError(f"{source!r} is not hf://OWNER/REPOSITORY/PATH[@REVISION].")
    path = _fetched(source, asked, offline=offline)
    after = path.parts[path.parts.index("snapshots") + 1]
    return Found(path, {"file": asked["path"], "repository": asked["repo"], "revision": after})


def _fetched(source: str, asked: Any, *, offline: bool) -> Path:
    # slow to import, and most checkpoints are local
    from huggingface_hub import hf_hub_download  # noqa: PLC0415
    from huggingface_hub.errors import (  # noqa: PLC0415
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(
            hf_hub_download(
                asked["repo"],
                asked["path"],
                revision=asked["revision"],
                local_files_only=offline,
            )
        )
    except LocalEntryNotFoundError as error:
        blame = "may not be fetched offline" if offline else "the hub cannot be reached"
        raise ModelError(f"{source!r} is not in the local cache and {blame}.") from error
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelError(
            f"The hub has no {source!r}, or not for everybody: check its name and revision."
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"{source!r} cannot be fetched: {reason}") from error
