"""Tells from files alone, without Prefect or torch, that a command has nothing left to do.

Each function returns the summary of a command that has nothing to do, or None if it has.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from flows.summary import StageSummary, Summary
from storage.captions import caption_store
from storage.layout import Root, open_root
from storage.models import ModelName, versions
from storage.reading import is_stored, scoring_space
from storage.run_summary import finalise, is_sealed, read_stats, samples, unseal
from storage.settled import Settled
from storage.sources import open_source
from tasks.ingest import IngestOptions
from tasks.options import CaptionOptions, EmbedOptions, TrainOptions
from tasks.outstanding import Outstanding, cut_standing, to_cut, uncaptioned, unembedded
from tasks.reranking import rerank_embedding
from tasks.settings.caption import embedding_for, find_run
from tasks.settings.embed import find_embeddings
from tasks.settings.train import model_version, train_request
from tasks.spaces import find_caption_space, training_space

_log = logging.getLogger(__name__)


def finished_run(
    source: str, root: str, captions: CaptionOptions, ingest: IngestOptions
) -> Summary | None:
    """Whether every picture of `source` has its caption; freezes a plan if not."""
    summary = Summary(command="run", root=root)
    embedding, scored = embedding_for(open_root(root), captions), rerank_embedding(captions)
    parts: tuple[Callable[[], Summary | None], ...] = (
        lambda: finished_shards(source, root, ingest),
        lambda: finished_embeddings(root, embedding),
        *((lambda: finished_embeddings(root, scored),) if scored else ()),
        lambda: finished_captions(root, captions, embedding),
    )
    for part in parts:
        done = part()
        if done is None:
            return None
        summary.add(done)
    return summary


def finished_shards(source: str, root: str, ingest: IngestOptions) -> Summary | None:
    """Whether every picture of `source` is in a shard; freezes a plan if not."""
    place = open_root(root)
    collection = open_source(source, exclude=place.url, table=ingest.table)
    return _idle("shard", root, to_cut(place, collection, ingest))


def finished_embeddings(root: str, options: EmbedOptions) -> Summary | None:
    """Whether every shard has its embeddings."""
    place = open_root(root)
    settled = find_embeddings(place, options)
    if settled is None:
        return None
    summary = _idle("embed", root, unembedded(place, settled))
    if summary:
        summary.outputs = [place.space(settled.name)]
    return summary


def finished_captions(
    root: str, options: CaptionOptions, embeddings: EmbedOptions
) -> Summary | None:
    """Whether every embedded shard has its captions; sums the run up if only that is missing."""
    place = open_root(root)
    space = find_caption_space(place, options, embeddings)
    settled = space and find_run(place, options, space)
    if space is None or settled is None:
        return None
    summary = _idle("caption", root, uncaptioned(place, settled, space))
    return summary and _with_run(summary, place, settled, space)


def finished_training(root: str, options: TrainOptions, embeddings: EmbedOptions) -> Summary | None:
    """Whether the model that `options` would train is there; ConfigurationError if it cannot be."""
    place = open_root(root)
    space = training_space(place, options, embeddings)
    model = ModelName(options.out, model_version(train_request(place, options, space)))
    if model.version not in versions(place, model.name):
        return None
    summary = Summary(command="train", root=root)
    summary.stages = [StageSummary(name="train", requested=1, skipped=1)]
    return with_model(summary, place, model)


def with_model(summary: Summary, place: Root, model: ModelName) -> Summary:
    """The summary with what the trained model came to."""
    receipt = versions(place, model.name)[model.version]
    summary.outputs = [place.model(model.name, model.version)]
    summary.facts = {"model": str(model), **receipt.facts}
    return summary


def sum_up(summary: Summary, place: Root, settled: Settled, space: Settled) -> None:
    """Give the summary the run's totals, and seal the run if every shard of the root is in it.

    A run that lacks one is left unsealed: the log and the fact `unsealed` say which and why.
    """
    left = "; ".join(_not_offered(place, space))
    if not left:
        summary.totals = finalise(place, settled)
        return
    unseal(place, settled)
    summary.totals = _counted(place, settled)
    summary.facts["unsealed"] = left
    _log.warning("run %s is not finished and stays without _SUCCESS: %s", settled.name, left)


def _not_offered(place: Root, space: Settled) -> Iterator[str]:
    """What keeps shards from being captioned at all; embeddings of others stand by themselves."""
    if is_stored(space):
        return
    yield from _left("cut", cut_standing(place))
    yield from _left("embedded", unembedded(place, space))
    scored = scoring_space(place, space)
    if scored and scored != space:
        yield from _left(f"embedded in {scored.name}", unembedded(place, scored))


def _left(what: str, standing: Outstanding) -> Iterator[str]:
    if standing.shards:
        first = standing.shards[0]
        why = standing.stale.get(first, "never done, or its attempts failed")
        number = f"{len(standing.shards)} of {standing.requested} shards"
        yield f"{number} have to be {what}, the first {first} ({why})"


def _counted(place: Root, settled: Settled) -> dict[str, Any]:
    """The totals of an unsealed run, from its receipts."""
    store, rows, failures = caption_store(place, settled), 0, Counter[str]()
    for batch in store.batches():
        for record in store.receipts(batch).values():
            rows += record.receipt.rows
            failures.update(record.receipt.failures)
    failed = failures.total()
    return {
        "rows": rows,
        "captioned": rows - failed,
        "failed": failed,
        "failures": dict(sorted(failures.items())),
    }


def _with_run(summary: Summary, place: Root, settled: Settled, space: Settled) -> Summary:
    summary.run = settled.name
    summary.outputs = [place.run(settled.name)]
    if is_sealed(place, settled):
        summary.totals = read_stats(place, settled)
    else:
        sum_up(summary, place, settled, space)
    summary.samples = samples(place, settled)
    return summary


def _idle(stage: str, root: str, todo: Outstanding) -> Summary | None:
    if todo.shards:
        return None
    done = StageSummary(name=stage, requested=todo.requested, skipped=todo.skipped)
    return Summary(command=stage, root=root, stages=[done])
