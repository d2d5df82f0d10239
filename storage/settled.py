"""Settings that are resolved once and then kept: what a folder of outputs was made with.

A *request* is what the user asked for, with its `auto`s. Resolving it may need the device, so it
is done once; the resolved settings are stored in the folder they name, and whoever makes the same
request later, on whatever machine, finds and keeps them.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from storage.commit import create
from storage.errors import ConfigurationError
from storage.fingerprint import fingerprint
from storage.layout import plain_name, safe_name
from storage.urls import folders, join, read_bytes, redact

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """One folder's settings."""

    name: str
    """The folder's name, `<what>-<fp8>` unless the user chose one."""
    fingerprint: str
    request: dict[str, Any]
    """As asked."""
    resolved: dict[str, Any]
    """As used."""

    def to_bytes(self, *, digest: bool = True) -> bytes:
        """The file's content; the first files had no digest of themselves."""
        body = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "request": self.request,
            "resolved": self.resolved,
        }
        if digest:
            body["digest"] = fingerprint(body)
        return (json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()

    def is_genuine(self, data: bytes) -> bool:
        """Whether `data` is exactly what these settings are kept as."""
        named = self.fingerprint == fingerprint(self.resolved)
        return named and data in (self.to_bytes(), self.to_bytes(digest=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    """Where settings of one kind are kept."""

    parent: str
    """URL of the folder of folders, for instance `ROOT/captions`."""
    file: str
    """Name of the file in each, for instance `run.json`."""

    def find(self, request: Mapping[str, Any], name: str = "") -> Settled | None:
        """The settings that `request` was resolved to before, under `name` if one is given."""
        candidates = [self.read(name)] if name else self.kept()
        for settled in candidates:
            if settled and settled.request == request:
                return settled
        return None

    def kept(self) -> Iterator[Settled]:
        """The settings of every folder that has some, in order of names, read as they are asked."""
        for name in folders(self.parent):
            if settled := self.read(name):
                yield settled

    def read(self, name: str) -> Settled | None:
        """The settings of folder `name`; None where it has none."""
        url = join(self.parent, name, self.file)
        try:
            body = json.loads(read_bytes(url))
            return Settled(
                name=name,
                fingerprint=body["fingerprint"],
                request=body["request"],
                resolved=body["resolved"],
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{redact(url)!r} is not a settings file: restore it, or use another root"
            ) from error

    def settle(
        self,
        request: Mapping[str, Any],
        resolve: Callable[[], Mapping[str, Any]],
        *,
        title: str,
        name: str = "",
    ) -> Settled:
        """The settings for `request`: those found, or else `resolve()`d now and kept.

        The folder is `name`, or `<resolved[title]>-<fp8>`; a `name` that holds other settings is
        refused.
        """
        if found := self.find(request, name):
            return found
        resolved = dict(resolve())
        digest = fingerprint(resolved)
        settled = Settled(
            name=plain_name(name, "run")
            if name
            else f"{safe_name(str(resolved[title]))}-{digest[:8]}",
            fingerprint=digest,
            request=dict(request),
            resolved=resolved,
        )
        return self._keep(settled)

    def _keep(self, settled: Settled) -> Settled:
        if create(join(self.parent, settled.name, self.file), settled.to_bytes()):
            return settled
        standing = self.read(settled.name)
        if standing is None or standing.fingerprint != settled.fingerprint:
            held = standing.fingerprint[:8] if standing else "nothing readable"
            raise ConfigurationError(
                f"{settled.name!r} was made with other settings ({held}, "
                f"not {settled.fingerprint[:8]}): choose another name"
            )
        return standing
