"""What each command does: tell a finished root from its files, else run the flow, then report.

Prefect and its server are started only if something is missing, so they are imported late.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import typer

from flows.finished import (
    finished_captions,
    finished_embeddings,
    finished_run,
    finished_shards,
    finished_training,
)
from flows.local_api import prefect_api
from flows.pages import add_report
from flows.progress import Display
from flows.report import report
from flows.summary import Summary
from storage.layout import open_root
from tasks.ingest import IngestOptions
from tasks.options import CaptionOptions, EmbedOptions, LaneOptions, TrainOptions
from tasks.settings.caption import embedding_for
from tasks.units.draw import Drawing


def run_command(
    source: str,
    root: str,
    captions: CaptionOptions,
    ingest: IngestOptions,
    lanes: LaneOptions,
) -> Summary:
    """Caption what is new in `source`."""

    def flow() -> Any:
        from flows.run import run

        return run(source, root, captions, replace(ingest, look=False), lanes, return_state=True)

    def finished() -> Summary | None:
        summary = finished_run(source, root, captions, ingest)
        if summary:
            add_report(summary)
        return summary

    return perform(finished, flow, lanes.kind)


def shard_command(source: str, root: str, ingest: IngestOptions, lanes: LaneOptions) -> Summary:
    """Cut what is new in `source`."""

    def flow() -> Any:
        from flows.shard import shard

        return shard(source, root, replace(ingest, look=False), lanes, return_state=True)

    return perform(lambda: finished_shards(source, root, ingest), flow, lanes.kind)


def embed_command(root: str, options: EmbedOptions, lanes: LaneOptions) -> Summary:
    """Embed what has no embedding."""

    def flow() -> Any:
        from flows.embed import embed

        return embed(root, options, lanes, return_state=True)

    return perform(lambda: finished_embeddings(root, options), flow, lanes.kind)


def caption_command(root: str, options: CaptionOptions, lanes: LaneOptions) -> Summary:
    """Caption what has no caption in this run."""
    embeddings = embedding_for(open_root(root), options)

    def flow() -> Any:
        from flows.caption import caption

        return caption(root, options, embeddings, lanes, return_state=True)

    return perform(lambda: finished_captions(root, options, embeddings), flow, lanes.kind)


def train_command(
    root: str, options: TrainOptions, embeddings: EmbedOptions, lanes: LaneOptions
) -> Summary:
    """Train a model."""

    def flow() -> Any:
        from flows.train import train

        return train(root, options, embeddings, lanes, return_state=True)

    return perform(lambda: finished_training(root, options, embeddings), flow)


def demo_command(out: str, drawing: Drawing, training: TrainOptions, lanes: LaneOptions) -> Summary:
    """The whole main job on drawn scenes."""

    def flow() -> Any:
        from flows.demo import demo

        return demo(out, drawing, training, lanes, return_state=True)

    return perform(lambda: None, flow)


def perform(
    finished: Callable[[], Summary | None], flow: Callable[[], Any], engine: str = "local"
) -> Summary:
    """What `finished` says, or what the flow comes to on a Prefect server."""
    began = time.perf_counter()
    with Display():
        summary = finished()
        if summary is None:
            with prefect_api(engine):
                from flows.stage import outcome

                summary = outcome(flow())
    summary.seconds = time.perf_counter() - began
    return summary


def finish(summary: Summary, *, as_json: bool) -> None:
    """Report, and leave with 1 if more shards failed than are allowed."""
    report(summary, as_json=as_json)
    if summary.ok:
        return
    if not summary.tolerated:
        raise SystemExit(1)
    failed = len(summary.failed_shards)
    typer.echo(f"nightcap: {failed} failed shards, as --max-failed-shards allows", err=True)
