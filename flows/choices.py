"""The arguments and options that commands share, each with its help in one place."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.options import ComputeOptions, DecodeOptions, LaneOptions, required

if TYPE_CHECKING:
    from storage.sources import TableOptions
    from tasks.ingest import IngestOptions

Source = Annotated[
    str, typer.Argument(help="A folder, a glob, a table (CSV, JSONL, Parquet, COCO, …) or tars.")
]
RootUrl = Annotated[
    str, typer.Argument(metavar="ROOT", help="Where all results lie: a path, s3://… or gs://….")
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A preset, a model trained under ROOT (name or name@fp8), or a folder",
    ),
]
RunName = Annotated[
    str, typer.Option("--run", help="Name of the run; by default <model>-<fingerprint>.")
]
Encoder = Annotated[
    str, typer.Option(help="nano, an open_clip NAME[/PRETRAINED], or a local folder.")
]
ModelEncoder = Annotated[
    str, typer.Option("--encoder", help="Folder of the model's encoder, if it is a local one.")
]
Embeddings = Annotated[
    str, typer.Option(help="Embeddings of others to read: a folder with img_emb/ and metadata/.")
]
EmbeddingScale = Annotated[
    float | None,
    typer.Option(help="Multiplies embeddings of length 1, for a model trained on others."),
]
StoredEncoder = Annotated[
    str,
    typer.Option(
        "--encoder", help="As for embed, by default nano; with --embeddings: what made those."
    ),
]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="Cut captions here; by default the model's own length.")
]
Decode = Annotated[
    str,
    typer.Option(
        "--decode", help="greedy, beam, clipcap, sample, top-k or top-p; else the model's own."
    ),
]
Samples = Annotated[
    int | None, typer.Option(min=1, help="Captions drawn for each picture; usual are 1, 5, 40.")
]
KeepSamples = Annotated[
    int | None, typer.Option("--keep-samples", min=1, help="Candidates kept; by default all.")
]
Rerank = Annotated[
    str, typer.Option("--rerank", help="Encoder that scores and chooses; else the model's own.")
]
SampleSeed = Annotated[
    int | None, typer.Option("--sample-seed", min=0, help="Another seed draws other captions.")
]
DecodeSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A setting of the decoding, such as beams=3; repeatable.",
    ),
]
Feature = Annotated[
    str, typer.Option(help="projected: shared with texts; pooled: before the projection.")
]
Normalized = Annotated[
    bool | None,
    typer.Option(
        "--normalized/--not-normalized",
        help="Whether embeddings get length 1; by default the encoder's own way.",
    ),
]
Score = Annotated[
    bool | None,
    typer.Option(
        "--score/--no-score",
        help="Score captions by CLIP cosine; by default if the text tower is at hand.",
    ),
]
Batch = Annotated[
    str, typer.Option(help="Name of this ingest; by default 0000, 0001, … or the unfinished one.")
]
SamplesPerShard = Annotated[int, typer.Option(min=1, help="Pictures in one tar.")]
Resize = Annotated[
    int | None, typer.Option(min=16, help="Shrink pictures to this short side when cutting tars.")
]
Images = Annotated[str, typer.Option(help="Folder that a table's paths start from.")]
PathColumn = Annotated[str, typer.Option(help="A table's column of paths, if not guessed right.")]
CaptionColumns = Annotated[
    list[str] | None,
    typer.Option("--caption-column", help="A table's column of captions, if not guessed right."),
]
Split = Annotated[
    str, typer.Option(help="Splits of a Karpathy document, such as train,restval; all if left out.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Pictures = Annotated[int | None, typer.Option("--batch-size", min=1, help="Pictures at once.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads of one worker; by default the cores, shared.")
]
LanesNumber = Annotated[
    int,
    typer.Option(
        "--lanes",
        min=0,
        help="Worker processes, one a GPU; 0 works in this process. "
        "If --engine joins a cluster: how many workers that has.",
    ),
]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds that one shard may take.")]
MaxFailed = Annotated[
    int,
    typer.Option(
        "--max-failed-shards",
        min=0,
        help="More failed shards fail the command; so many or fewer are told, with exit code 0.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(help="local, dask or ray; dask@ADDRESS or ray@auto joins a cluster that runs."),
]
Recipe = Annotated[str, typer.Option(help="How to train: nightcap models lists the recipes.")]
OutName = Annotated[str, typer.Option("--out", help="Name of the model under ROOT/models.")]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Optimiser steps; by default the recipe's own.")
]
Seed = Annotated[int, typer.Option(min=0, help="Another seed gives another model.")]
Offline = Annotated[
    bool, typer.Option("--offline", help="Never fetch weights.", envvar="NIGHTCAP_OFFLINE")
]
JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last line of output.")
]


def compute(
    device: str, dtype: str, batch_size: int | None, threads: int | None, *, offline: bool
) -> ComputeOptions:
    """The choices on where and how to compute, made binding for this process and its lanes."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    return ComputeOptions(
        device=device, dtype=dtype, batch_size=batch_size, threads=threads, offline=offline
    )


def decoding(
    name: str,
    samples: int | None,
    seed: int | None,
    max_tokens: int | None,
    settings: list[str] | None,
) -> DecodeOptions:
    """The choices on how tokens are chosen."""
    return DecodeOptions(
        name=name,
        samples=samples,
        seed=seed,
        max_tokens=max_tokens,
        settings=tuple(settings or ()),
    )


def ingest_options(
    batch: str, samples_per_shard: int, resize: int | None, table: "TableOptions"
) -> "IngestOptions":
    """The choices on how a source becomes shards."""
    from storage.plan import ShardOptions  # noqa: PLC0415 - help must answer at once
    from tasks.ingest import IngestOptions  # noqa: PLC0415

    shards = ShardOptions(samples_per_shard=samples_per_shard, resize=resize)
    return IngestOptions(batch=batch, shards=shards, table=table)


def table_options(
    images: str, path_column: str, caption_columns: list[str] | None, split: str
) -> "TableOptions":
    """The choices on how a table is read."""
    from storage.sources import TableOptions  # noqa: PLC0415 - help must answer at once

    return TableOptions(
        images=images,
        path_column=path_column,
        caption_columns=tuple(caption_columns or ()),
        splits=tuple(name for part in split.split(",") if (name := part.strip())),
    )


def on_lanes(
    lanes: int, timeout: float, max_failed_shards: int = 0, engine: str = "local"
) -> LaneOptions:
    """The choices on which processes work, refused where the engine is not installed."""
    chosen = LaneOptions(
        lanes=lanes, timeout=timeout, max_failed_shards=max_failed_shards, engine=engine
    )
    required(chosen.kind)
    return chosen
