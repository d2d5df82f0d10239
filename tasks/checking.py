"""Scores a run's captions again from the pictures: what stands in a wrong row gives itself away.

Nothing between the tar and the caption is believed: pictures are decoded and embedded anew, in
the numerics of the embeddings, captions in those of the run, and each cosine must be the one that
the run wrote.

Shapes:  N rows   C embedding
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from captioner.alignment import cosines
from captioner.captions import Captioner
from captioner.decoding import decoding_from_json
from captioner.devices import Numerics
from captioner.encoders import Encoder, load_encoder
from captioner.errors import ModelError, PictureError
from captioner.pictures import PictureLimits, decode
from captioner.presets import load_captioner, model_digest
from storage.captions import caption_store, find_captions
from storage.errors import ConfigurationError
from storage.layout import Root, ShardName, open_root
from storage.outputs import OutputStore
from storage.parquet import read
from storage.quality import alignment
from storage.quality_alarms import ignores_pictures
from storage.reading import is_stored
from storage.sampling import Smallest, mark_of
from storage.settled import Settled
from storage.shards import ShardStore
from tasks.scorers import pictures_encoder, scored_in, scorer_of
from tasks.settings.common import locate_model

SHARDS = 10
"""Shards that are read at most: a tar is read as a whole, for a picture or for all."""
MOST_BLANK = 0.05
"""Share of captions that may be those of a blank picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """What a check looks at."""

    run: str = ""
    """Empty where there is only one."""
    rows: int = 1000
    tolerance: float = 1e-3
    """How far a cosine may be off; raise it only for another device or precision than the run's."""
    encoder: str = ""
    """Folder of the scoring encoder, if it is a local one."""
    model: str = ""
    """Folder of the model, if it is a local one."""


@dataclass(frozen=True, slots=True)
class Written:
    """One row as the run wrote it."""

    shard: str
    key: str
    caption: str
    clip_sim: float


def check(url: str, options: CheckOptions) -> dict[str, Any]:
    """What came of scoring a sample of the run again; `alarms` is empty if all is well.

    The sample depends on the rows' names alone. Raises ConfigurationError for a run without
    scores, or whose scorer or pictures are not at hand.
    """
    root = open_root(url)
    settled = find_captions(root, options.run)
    scored = _scored(root, settled)
    rows = sampled(caption_store(root, settled), options.rows)
    scorer = scorer_of(settled, scored, options.encoder)
    encoder = pictures_encoder(settled, scored, options.encoder)
    image_NC = torch.from_numpy(_embeddings(root, rows, encoder, scored.resolved["value"]))
    found = cosines(scorer, [row.caption for row in rows], image_NC, range(len(rows)))
    facts = _judged(rows, found.own, options.tolerance)
    facts |= _aligned(found.own, found.other)
    facts["blank_share"], facts["blank_says"] = _blank(root, settled, rows, options, scorer)
    alarms = _alarms(facts, len(rows), options.tolerance)
    shards = len({row.shard for row in rows})
    facts = {"run": settled.name, "rows": len(rows), "shards": shards, **facts, "alarms": alarms}
    return {"command": "check", "ok": not alarms, "root": url, **facts}


def sampled(store: OutputStore, size: int) -> list[Written]:
    """`size` scored rows of at most ten shards, drawn by their names, in order of shard."""
    shards: Smallest[ShardName] = Smallest(SHARDS)
    for batch in store.batches():
        for stem, record in store.receipts(batch).items():
            if record.receipt.rows > sum(record.receipt.failures.values()):
                shards.add(mark_of(batch, stem), ShardName(batch, stem))
    chosen: Smallest[Written] = Smallest(size)
    for shard in sorted(shards.things()):
        for row in _written(store, shard):
            chosen.add(mark_of(row.shard, row.key), row)
    if not chosen.offered:
        raise ConfigurationError(f"the run in {store.folder!r} has no scored captions to check")
    return sorted(chosen.things(), key=lambda row: row.shard)


def _written(store: OutputStore, shard: ShardName) -> Iterator[Written]:
    for table in read(store.data_url(shard), ["key", "caption", "clip_sim"]):
        for row in table.to_pylist():
            if row["caption"] and row["clip_sim"] is not None:
                yield Written(str(shard), **row)


def _scored(root: Root, settled: Settled) -> Settled:
    """The space that the run was scored in, if its pictures are here."""
    scored = scored_in(root, settled)
    if is_stored(scored):
        raise ConfigurationError(
            f"run {settled.name!r} was made from embeddings of others: there are no pictures here "
            "to check its captions against"
        )
    return scored


def _embeddings(
    root: Root, rows: list[Written], encoder: Encoder, value: str
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The pictures of `rows`, embedded anew and rounded as they are stored; NaN where it fails."""
    place = {(row.shard, row.key): at for at, row in enumerate(rows)}
    image_NC = np.full((len(rows), encoder.dim), np.nan, dtype=np.float32)
    pictures = _pictures(root, place, encoder)
    while batch := list(islice(pictures, 32)):
        image_BC = encoder.encode_images(torch.stack([pixels for _, pixels in batch])).numpy()
        image_NC[[at for at, _ in batch]] = image_BC.astype(value)
    return image_NC


def _pictures(
    root: Root, place: Mapping[tuple[str, str], int], encoder: Encoder
) -> Iterator[tuple[int, torch.Tensor]]:
    for shard in sorted({shard for shard, _ in place}):
        for sample in ShardStore(root).samples(ShardName.parse(shard)):
            at = place.get((shard, sample.key))
            if at is None or sample.image is None:
                continue
            try:
                picture = decode(sample.image, PictureLimits(), shrink_to=encoder.image_size)
            except PictureError:
                continue  # a caption of what is no picture: its score will be off by all
            yield at, encoder.preprocess(picture.rgb)


def _judged(rows: list[Written], own: Iterable[float], tolerance: float) -> dict[str, Any]:
    """How far each row's cosine is off; a row without a picture is off by all."""
    pairs = list(zip(rows, own, strict=True))
    deltas = [abs(now - row.clip_sim) if now == now else 2.0 for row, now in pairs]  # noqa: PLR0124
    off = [
        {"shard": row.shard, "key": row.key, "written": row.clip_sim, "now": round(now, 6)}
        for (row, now), delta in zip(pairs, deltas, strict=True)
        if delta > tolerance
    ]
    return {"off": len(off), "worst": max(deltas), "examples": off[:5]}


def _aligned(own: list[float], other: list[float]) -> dict[str, Any]:
    pairs = zip(own, other, strict=True)
    gaps = [one - two for one, two in pairs if np.isfinite([one, two]).all()]
    sums = {"aligned": len(gaps), "margin": sum(gaps), "squares": sum(gap**2 for gap in gaps)}
    found = alignment(sums if len(own) > 1 else {})
    return {name: found[name] for name in ("margin", "margin_effect")}


def _blank(
    root: Root, settled: Settled, rows: list[Written], options: CheckOptions, encoder: Encoder
) -> tuple[float | None, str]:
    """The share of captions that a blank picture gets too, or why it is not known."""
    model = locate_model(root, options.model or str(settled.resolved["model"]))
    numerics = Numerics(**settled.resolved["numerics"])
    try:
        if model_digest(model) != settled.resolved["weights"]:
            return None, f"{model!r} is not the run's model: give its folder with --model"
        captioner = load_captioner(model, device=numerics.device, dtype=numerics.dtype)
        texts = set(_of_blank(captioner, settled, encoder, numerics))
    except ModelError as error:
        return None, str(error)
    return sum(row.caption in texts for row in rows) / len(rows), " | ".join(sorted(texts))


def _of_blank(
    captioner: Captioner, settled: Settled, encoder: Encoder, numerics: Numerics
) -> Iterator[str]:
    """What the model says of a grey picture."""
    spec = captioner.encoder_spec
    if spec.name != encoder.name or spec.form.feature != encoder.feature:
        encoder = load_encoder(
            spec.name, spec.form, device=numerics.device, dtype=numerics.dtype, offline=True
        )
    pixels = encoder.preprocess(Image.new("RGB", (256, 256), (128, 128, 128)))
    decoding = decoding_from_json(settled.resolved["decoding"])
    image_BC = encoder.encode_images(pixels[None])
    return (one.text for one in captioner.candidates(image_BC, decoding, ["blank"])[0])


def _alarms(facts: Mapping[str, Any], rows: int, tolerance: float) -> list[dict[str, str]]:
    found = []
    if facts["off"]:
        says = (
            f"{facts['off']} of {rows} captions do not score as written (by up to "
            f"{facts['worst']:.3f}, {tolerance:g} is allowed): rows were shifted or swapped, "
            "or another device wrote them"
        )
        found.append({"alarm": "score", "says": says})
    if says := ignores_pictures(rows, facts["margin"], facts["margin_effect"]):
        found.append({"alarm": "alignment", "says": says})
    if (facts["blank_share"] or 0.0) > MOST_BLANK:
        says = f"{facts['blank_share']:.1%} of the captions are those of a blank picture"
        found.append({"alarm": "blank", "says": says})
    return found
