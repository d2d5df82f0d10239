"""Caption one shard: embeddings in, rows with captions and scores out, no picture touched.

Shapes:  B batch   N rows   C embedding
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from captioner.alignment import cosines
from captioner.captions import Caption, Captioner
from captioner.decoding import Decoding, decoding_from_json
from captioner.devices import Numerics
from captioner.encoders import Encoder
from captioner.memory import within_memory
from storage.captions import caption_store, run_settings
from storage.embedded import ShardRows
from storage.embeddings import embedding_values
from storage.errors import ConfigurationError
from storage.layout import ShardName, open_root
from storage.outputs import OutputStore
from storage.paired import SCORED
from storage.parquet import fitting
from storage.reading import embedding_source, run_space, scoring_space
from storage.receipts import Receipt
from storage.schema import CAPTIONS, with_facts
from storage.settled import Settled
from tasks.progress import tick
from tasks.settings.common import space_form
from tasks.units.candidates import Candidate, Tally, best_first, distinct
from tasks.units.jobs import CaptionJob
from tasks.units.loaded import captioner_in_lane, encoder_in_lane


@dataclass(frozen=True, slots=True)
class Writer:
    """What writes and scores captions in this process."""

    captioner: Captioner
    decoding: Decoding
    scorer: Encoder | None
    scale: float = 1.0
    """Multiplies stored embeddings, for a model that was not trained on normalised ones."""
    keep: int | None = None
    """Candidates kept of each picture, best first; None keeps all."""
    tally: Tally = field(default_factory=Tally)

    def write(self, image_NC: torch.Tensor, ids: list[str]) -> list[list[Caption] | None]:
        """The captions of each row; None for one that the device has no room for, even alone."""

        def work(start: int, stop: int) -> list[list[Caption]]:
            return self.captioner.candidates(
                image_NC[start:stop],
                self.decoding,
                ids[start:stop],
                progress=lambda count: tick("caption", count),
            )

        return within_memory(work, len(ids))

    def score(
        self, texts: Sequence[str | None], image_NC: torch.Tensor, owner: Sequence[int]
    ) -> list[tuple[float | None, float | None]]:
        """The cosines of each text with its picture and with the next one.

        Text m belongs to row `owner[m]` of what the scorer saw. None where there is no text, no
        scorer, no embedding, or no other picture.
        """
        there = [number for number, text in enumerate(texts) if text]
        scores: list[tuple[float | None, float | None]] = [(None, None)] * len(texts)
        if self.scorer is None or not there:
            return scores
        given = [text for text in texts if text]
        found = cosines(self.scorer, given, image_NC, [owner[number] for number in there])
        alone = len(image_NC) == 1
        for number, own, other in zip(there, found.own, found.other, strict=True):
            scores[number] = _finite(own), None if alone else _finite(other)
        return scores


@dataclass(frozen=True, slots=True)
class CaptionWork:
    """What a job names, found and loaded."""

    store: OutputStore
    shard: ShardName
    rows: ShardRows
    writer: Writer
    schema: pa.Schema

    @classmethod
    def of(cls, job: CaptionJob) -> "CaptionWork":
        """Raises ConfigurationError if the job's run has no settings, or no embeddings."""
        root, shard = open_root(job.root), ShardName.parse(job.shard)
        settled = run_settings(root).read(job.run)
        space = settled and run_space(root, settled)
        scored = space and scoring_space(root, space)
        if settled is None or space is None or scored is None:
            raise ConfigurationError(f"run {job.run!r} has no settings, or its embeddings are gone")
        numerics = Numerics(**settled.resolved["numerics"])
        captioner = captioner_in_lane(job.model, numerics)
        form = captioner.encoder_spec.form if scored == space else space_form(scored)
        scorer = encoder_in_lane(job.encoder, form, numerics) if job.encoder else None
        decoding = decoding_from_json(settled.resolved["decoding"])
        scale = float(settled.resolved["embeddings"].get("scale", 1.0))
        keep = settled.resolved.get("keep")
        return cls(
            store=caption_store(root, settled),
            shard=shard,
            rows=embedding_source(root, space).open(shard),
            writer=Writer(captioner, decoding, scorer, scale, keep),
            schema=with_facts(CAPTIONS, run_facts(settled)),
        )

    def tables(self) -> Iterator[pa.Table]:
        """One row for every row of the shard, captioned as it is asked for."""
        return captioned(self.rows, self.writer, str(self.shard))


def caption_shard(job: CaptionJob) -> Receipt:
    """The receipt of the shard's captions, made now."""
    work = CaptionWork.of(job)
    facts = work.writer.tally.facts
    return work.store.commit(work.shard, work.tables(), work.schema, work.rows.inputs, facts)


def run_facts(settled: Settled) -> dict[str, str]:
    """What every file of a run says of the whole run."""
    resolved = settled.resolved
    facts = {name: str(resolved[name]) for name in ("model", "weights", "scorer", "decoding")}
    return {**facts, "run": settled.name, "fingerprint": settled.fingerprint}


def captioned(
    pairs: Iterable[tuple[pa.Table, pa.Table]], writer: Writer, shard: str
) -> Iterator[pa.Table]:
    """One row for every row of the index, in order."""
    for index, embeddings in pairs:
        image_NC = torch.from_numpy(embedding_values(embeddings)) * writer.scale
        two = SCORED in embeddings.column_names
        scored_NC = torch.from_numpy(embedding_values(embeddings, SCORED)) if two else image_NC
        known = _known(shard, index, embeddings)
        rows: list[dict[str, Any]] = [
            row | {"captions": []} for row in known.select(_READ).to_pylist()
        ]
        _fill(rows, image_NC, scored_NC, writer)
        yield _table(known, rows)


NO_ROOM = "the device has no room for it alone"
_READ = ("key", "shard", "sha256", "orig_caption", "status", "error_code", "error_detail")
"""What is written into a row may depend on these; the other columns pass by as they are."""


def _known(shard: str, index: pa.Table, embeddings: pa.Table) -> pa.Table:
    """The columns of the rows that are there before any caption is."""
    columns = {name: index[name] for name in ("key", "path", "url")}
    columns["shard"] = pa.array([shard] * len(index), pa.string())
    said = index["captions"].combine_chunks()
    begins = np.asarray(said.offsets)
    none = np.diff(begins) == 0
    columns["orig_caption"] = said.values.take(pa.array(begins[:-1], mask=none))
    seen = (name for name in embeddings.column_names if name not in ("key", "embedding", SCORED))
    return pa.table(columns | {name: embeddings[name] for name in seen})


def _table(known: pa.Table, rows: list[dict[str, Any]]) -> pa.Table:
    """`known` with what `rows` say; a column that neither has is null."""
    there = set().union(*rows) - {"key", "shard", "sha256", "orig_caption"}
    passed = set(known.column_names) - there
    with fitting():
        columns = [
            known[column.name]
            if column.name in passed
            else pa.array([row.get(column.name) for row in rows], column.type)
            for column in CAPTIONS
        ]
        return pa.table(columns, schema=CAPTIONS)


def _fill(
    rows: list[dict[str, Any]], image_NC: torch.Tensor, scored_NC: torch.Tensor, writer: Writer
) -> None:
    """Write captions and scores into the rows that are ok."""
    fine = [number for number, row in enumerate(rows) if row["status"] == "ok"]
    if not fine:
        return
    image_NC, scored_NC = image_NC[fine], scored_NC[fine]
    made = writer.write(image_NC, [_id(rows[at]) for at in fine])
    written = [distinct(one or []) for one in made]
    owner = [at for at, row in enumerate(written) for _ in row]
    texts = [one.text for row in written for one in row]
    scores = iter(writer.score(texts, scored_NC, owner))
    given = [rows[number]["orig_caption"] for number in fine]
    originals = writer.score(given, scored_NC, range(len(fine)))
    for number, captions, (original, _) in zip(fine, written, originals, strict=True):
        drawn = [Candidate(one, *next(scores)) for one in captions]
        ranked = best_first(drawn)
        writer.tally.add(drawn, ranked)
        rows[number] |= _captioned_columns(ranked[: writer.keep], original)
    for number, row in zip(fine, made, strict=True):
        if row is None:
            rows[number] |= {"error_code": "out_of_memory", "error_detail": NO_ROOM}


def _id(row: dict[str, Any]) -> str:
    """What draws for this image depend on: its bytes, or its place where nobody saw those."""
    return str(row["sha256"] or f"{row['shard']}/{row['key']}")


def _finite(score: float) -> float | None:
    """The score, None where the scorer had no embedding of the picture."""
    return score if isfinite(score) else None


def _captioned_columns(ranked: list[Candidate], original: float | None) -> dict[str, Any]:
    if not ranked:
        detail = "the log-probability is not finite"
        return {"status": "error", "error_code": "model_error", "error_detail": detail}
    best = ranked[0]
    return {
        "caption": best.caption.text,
        "caption_logprob": best.caption.logprob,
        "n_tokens": best.caption.n_tokens,
        "clip_sim": best.clip_sim,
        "orig_clip_sim": original,
        "captions": [one.to_row() for one in ranked],
    }
