"""Tries failed pictures again, a shard at a time, in lanes: no Prefect server is needed for it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from captioner.encoders import encoder_digest, encoder_folder
from captioner.errors import ModelError
from storage.captions import caption_store, find_captions, run_settings
from storage.embeddings import embedding_settings, embedding_store
from storage.errors import ConfigurationError, ShardError, StoreUnavailable
from storage.layout import Root, open_root
from storage.outputs import OutputStore
from storage.quarantine import write_quarantine
from storage.reading import is_stored, run_space, scoring_space
from storage.retrying import PASSING, Retry, failed_here, failures_of, record_attempt, to_retry
from storage.run_summary import finalise, is_sealed, unseal
from storage.settled import Settled
from tasks.lanes import LaneLost, in_lane, open_lanes
from tasks.options import LaneOptions
from tasks.outstanding import uncaptioned
from tasks.settings.caption import sources_of
from tasks.units.jobs import CaptionJob, EmbedJob


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions:
    """What is tried again."""

    codes: tuple[str, ...] = PASSING
    """Error codes of the pictures to try."""
    max_attempts: int = 3
    """Shards that were tried so often are let be."""
    run: str = ""
    """Only this run and its embeddings; empty is all."""
    encoder: str = ""
    """Where the encoder lies if it is a local one."""


def retry_failed(root: str, options: RetryOptions, lanes: LaneOptions) -> dict[str, Any]:
    """Try again, then write down what is still failed: what `--json` prints.

    First embeddings, then those captions that failed by themselves; captions whose embeddings
    were mended are the next run's. A shard that cannot be read or written costs only itself; a
    model or an encoder that is not here is a ConfigurationError.
    """
    place = open_root(root)
    only = options.run
    runs = [find_captions(place, only)] if only else list(run_settings(place).kept())
    again = _Again(place, options)
    with open_lanes(lanes.lanes, lanes.timeout):
        for one in [one for space in _spaces(place, runs, only) for one in again.embeddings(space)]:
            again.attempt(one)
        for settled, tries in [(settled, again.captions(settled)) for settled in runs]:
            again.caption(settled, tries)
    tried = sum(one["tried"] for one in again.retried.values())
    return {
        "command": "retry-failed",
        "root": root,
        "codes": list(options.codes),
        "tried": tried,
        "mended": tried - sum(one["left"] for one in again.retried.values()),
        "shards": again.retried,
        "outputs": again.quarantined(runs),
        "ok": not again.failed,
        "failed_shards": again.failed,
    }


@dataclass(frozen=True, slots=True)
class _Try:
    """One shard's next attempt."""

    name: str
    """`<space or run>/<shard>`."""
    store: OutputStore
    retry: Retry
    unit: str
    job: EmbedJob | CaptionJob


@dataclass(slots=True)
class _Again:
    """What is tried again, and what came of it."""

    root: Root
    options: RetryOptions
    retried: dict[str, dict[str, int]] = field(default_factory=dict)
    """By `<space or run>/<shard>`: pictures tried, and those still failed."""
    failed: dict[str, str] = field(default_factory=dict)
    """What could not be tried, or summed up, in one sentence each."""

    def embeddings(self, space: Settled) -> list[_Try]:
        """Shards of a space to embed once more."""
        store = embedding_store(self.root, space)
        retries = list(to_retry(store, self.options.codes, self.options.max_attempts))
        encoder = retries and self._located(str(space.resolved["encoder"]), space)
        return [
            _Try(
                f"{space.name}/{retry.shard}",
                store,
                retry,
                "retry_shard",
                EmbedJob(
                    root=self.root.url,
                    shard=str(retry.shard),
                    space=space.name,
                    encoder=str(encoder),
                ),
            )
            for retry in retries
        ]

    def captions(self, settled: Settled) -> list[_Try]:
        """Shards of a run in which a caption failed on a sound embedding, to caption once more."""
        space = run_space(self.root, settled)
        if space is None:
            return []
        store = caption_store(self.root, settled)
        below = {} if is_stored(space) else failures_of(embedding_store(self.root, space))
        outdated = set(uncaptioned(self.root, settled, space).shards)
        found = to_retry(store, self.options.codes, self.options.max_attempts, below)
        retries = [retry for retry in found if retry.shard not in outdated]
        if not retries:
            return []
        model, scorer = sources_of(self.root, settled)
        encoder = scorer and self._located(scorer, scoring_space(self.root, space) or space)
        return [
            _Try(
                f"{settled.name}/{retry.shard}",
                store,
                retry,
                "recaption_shard",
                CaptionJob(
                    root=self.root.url,
                    shard=str(retry.shard),
                    run=settled.name,
                    model=model,
                    encoder=encoder,
                ),
            )
            for retry in retries
        ]

    def attempt(self, one: _Try) -> None:
        """Do it, and remember what came of it."""
        with self._telling(one.name):
            try:
                receipt = in_lane(f"tasks.units.retry:{one.unit}", one.job)
            except LaneLost:
                receipt = record_attempt(one.store, one.retry.shard)
            left = failed_here(receipt.failures, self.options.codes, one.retry.below)
            self.retried[one.name] = {"tried": one.retry.pictures, "left": left}

    def caption(self, settled: Settled, tries: list[_Try]) -> None:
        """Do them all without the run's seal, which comes back whatever happens."""
        sealed = bool(tries) and is_sealed(self.root, settled)
        if sealed:
            unseal(self.root, settled)
        try:
            for one in tries:
                self.attempt(one)
        finally:
            if sealed:
                with self._telling(settled.name):
                    finalise(self.root, settled)

    def quarantined(self, runs: list[Settled]) -> list[str]:
        """Write each run's quarantine; where they lie, without runs that cannot be read."""
        urls: list[str] = []
        for settled in runs:
            with self._telling(settled.name):
                urls.append(write_quarantine(self.root, settled))
        return urls

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        try:
            yield
        except (ShardError, StoreUnavailable) as error:
            self.failed[name] = str(error)

    def _located(self, name: str, space: Settled) -> str:
        """What the encoder that the settings of `space` call `name` is loaded from.

        A local one is called after its content, so that only `encoder` tells where it lies.
        """
        title, local, digest = name.partition("@")
        place = self.options.encoder if local else name
        if not local and not encoder_folder(name):
            return name
        wanted = str(space.resolved.get("weights", digest))
        with suppress(ModelError):
            if place and encoder_digest(place).startswith(wanted):
                return place
        raise ConfigurationError(
            f"{space.name!r} was made with the encoder {name!r}, which is not here or not the same "
            f"any more: give the folder of {title!r} with --encoder, or another run with --run"
        )


def _spaces(place: Root, runs: list[Settled], run: str) -> list[Settled]:
    """The embeddings of one run, or all that were made here."""
    if run:
        found = [space for settled in runs if (space := run_space(place, settled))]
        return [space for space in found if not is_stored(space)]
    return list(embedding_settings(place).kept())
