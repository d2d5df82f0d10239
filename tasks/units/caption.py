"""Caption one shard: embeddings in, rows with captions and scores out, no picture touched.

Shapes:  B batch   N rows   C embedding
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

import pyarrow as pa
import torch

from captioner.captions import Caption, Captioner
from captioner.decoding import Decoding, decoding_from_json
from captioner.devices import Numerics
from captioner.encoders import Encoder
from captioner.scoring import clip_similarities
from storage.captions import caption_store, run_settings
from storage.embeddings import embedding_values
from storage.errors import ConfigurationError
from storage.layout import ShardName, open_root
from storage.parquet import rows_to_table
from storage.reading import embedding_source, read_space
from storage.receipts import Receipt
from storage.schema import CAPTIONS, with_facts
from storage.settled import Settled
from tasks.progress import tick
from tasks.units.jobs import CaptionJob
from tasks.units.loaded import captioner_in_lane, encoder_in_lane


@dataclass(frozen=True, slots=True)
class Writer:
    """What writes and scores captions in this process."""

    captioner: Captioner
    decoding: Decoding
    scorer: Encoder | None
    batch_size: int
    scale: float = 1.0
    """Multiplies stored embeddings, for a model that was not trained on normalised ones."""

    def write(self, image_NC: torch.Tensor, ids: list[str]) -> list[list[Caption]]:
        """The captions of each row; batches always start at the same rows."""
        rows: list[list[Caption]] = []
        size = max(1, self.batch_size // self.decoding.candidates)
        for at in range(0, len(image_NC), size):
            image_BC = image_NC[at : at + size]
            rows += self.captioner.candidates(image_BC, self.decoding, ids[at : at + size])
            tick("caption", len(image_BC))
        return rows

    def score(self, texts: list[str | None], image_NC: torch.Tensor) -> list[float | None]:
        """The cosine of each text and its image, None where there is no text or no scorer."""
        there = [number for number, text in enumerate(texts) if text]
        scores: list[float | None] = [None] * len(texts)
        if self.scorer is None or not there:
            return scores
        given = [text for text in texts if text]
        for number, score in zip(
            there, clip_similarities(self.scorer, given, image_NC[there]), strict=True
        ):
            scores[number] = score
        return scores


def caption_shard(job: CaptionJob) -> Receipt:
    """The receipt of the shard's captions, made now."""
    root, shard = open_root(job.root), ShardName.parse(job.shard)
    settled = run_settings(root).read(job.run)
    space = settled and read_space(root, settled.resolved["embeddings"]["space"])
    if settled is None or space is None:
        raise ConfigurationError(f"run {job.run!r} has no settings, or its embeddings are gone")
    numerics = Numerics(**settled.resolved["numerics"])
    captioner = captioner_in_lane(job.model, numerics)
    form = captioner.encoder_spec.form
    scorer = encoder_in_lane(job.encoder, form, numerics) if job.encoder else None
    decoding = decoding_from_json(settled.resolved["decoding"])
    scale = float(settled.resolved["embeddings"].get("scale", 1.0))
    writer = Writer(captioner, decoding, scorer, numerics.batch_size, scale)
    rows = embedding_source(root, space).open(shard)
    tables = captioned(rows, writer, str(shard))
    schema = with_facts(CAPTIONS, run_facts(settled))
    return caption_store(root, settled).commit(shard, tables, schema, rows.inputs)


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
        rows = [
            _row(shard, there, seen)
            for there, seen in zip(
                index.to_pylist(), embeddings.drop(["embedding"]).to_pylist(), strict=True
            )
        ]
        _fill(rows, image_NC, writer)
        yield rows_to_table(rows, CAPTIONS)


def _row(shard: str, there: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    copied = {name: there[name] for name in ("key", "path", "url")}
    looked = {name: value for name, value in seen.items() if name != "key"}
    nothing = ("caption", "caption_logprob", "n_tokens", "clip_sim", "orig_clip_sim")
    return {
        **copied,
        **looked,
        "shard": shard,
        "orig_caption": next(iter(there["captions"]), None),
        **dict.fromkeys(nothing),
        "captions": [],
    }


def _fill(rows: list[dict[str, Any]], image_NC: torch.Tensor, writer: Writer) -> None:
    """Write captions and scores into the rows that are ok."""
    fine = [number for number, row in enumerate(rows) if row["status"] == "ok"]
    if not fine:
        return
    image_NC = image_NC[fine]
    ids = [
        rows[number]["sha256"] or f"{rows[number]['shard']}/{rows[number]['key']}"
        for number in fine
    ]
    written = [_distinct(row) for row in writer.write(image_NC, ids)]
    owner = [at for at, row in enumerate(written) for _ in row]
    scores = iter(writer.score([one.text for row in written for one in row], image_NC[owner]))
    originals = writer.score([rows[number]["orig_caption"] for number in fine], image_NC)
    for number, captions, original in zip(fine, written, originals, strict=True):
        ranked = _best_first([_candidate(one, next(scores)) for one in captions])
        rows[number] |= _captioned_columns(ranked, original)


def _id(row: dict[str, Any]) -> str:
    """What draws for this image depend on: its bytes, or its place where nobody saw those."""
    return str(row["sha256"] or f"{row['shard']}/{row['key']}")


def _distinct(captions: list[Caption]) -> list[Caption]:
    """The captions of one image without those that say again what an earlier one says."""
    return list({caption.text: caption for caption in reversed(captions)}.values())[::-1]


def _candidate(caption: Caption, score: float | None) -> dict[str, Any]:
    return {
        "text": caption.text,
        "logprob": caption.logprob,
        "n_tokens": caption.n_tokens,
        "clip_sim": score,
        "seed": caption.seed,
    }


def _best_first(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By clip_sim where there is one, else by log-probability, which has to be finite."""
    sound = [one for one in candidates if isfinite(one["logprob"])]
    by = "logprob" if any(one["clip_sim"] is None for one in sound) else "clip_sim"
    return sorted(sound, key=lambda one: -one[by])


def _captioned_columns(ranked: list[dict[str, Any]], original: float | None) -> dict[str, Any]:
    if not ranked:
        detail = "the log-probability is not finite"
        return {"status": "error", "error_code": "model_error", "error_detail": detail}
    best = ranked[0]
    return {
        "caption": best["text"],
        "caption_logprob": best["logprob"],
        "n_tokens": best["n_tokens"],
        "clip_sim": best["clip_sim"],
        "orig_clip_sim": original,
        "captions": ranked,
    }
