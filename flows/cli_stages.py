"""The commands of single stages that come before captions: shard, embed."""

import typer

from flows.choices import (
    Batch,
    CaptionColumns,
    Device,
    Dtype,
    Encoder,
    Engine,
    Feature,
    Images,
    JsonFlag,
    LanesNumber,
    MaxFailed,
    Normalized,
    Offline,
    PathColumn,
    Pictures,
    Resize,
    RootUrl,
    SamplesPerShard,
    Source,
    Split,
    Threads,
    Timeout,
    compute,
    ingest_options,
    on_lanes,
    table_options,
)

stages = typer.Typer()


@stages.command()
def shard(
    source: Source,
    root: RootUrl,
    batch: Batch = "",
    samples_per_shard: SamplesPerShard = 10_000,
    resize: Resize = None,
    images: Images = "",
    path_column: PathColumn = "",
    caption_columns: CaptionColumns = None,
    split: Split = "",
    lanes: LanesNumber = 1,
    timeout: Timeout = 3600.0,
    max_failed_shards: MaxFailed = 0,
    engine: Engine = "local",
    as_json: JsonFlag = False,
) -> None:
    """Cut what is new in SOURCE into webdataset tars under ROOT."""
    from flows.commands import finish, shard_command

    table = table_options(images, path_column, caption_columns, split)
    summary = shard_command(
        source,
        root,
        ingest_options(batch, samples_per_shard, resize, table),
        on_lanes(lanes, timeout, max_failed_shards, engine),
    )
    finish(summary, as_json=as_json)


@stages.command()
def embed(
    root: RootUrl,
    encoder: Encoder = "nano",
    feature: Feature = "projected",
    normalized: Normalized = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: Pictures = None,
    threads: Threads = None,
    lanes: LanesNumber = 1,
    timeout: Timeout = 3600.0,
    max_failed_shards: MaxFailed = 0,
    engine: Engine = "local",
    offline: Offline = False,
    as_json: JsonFlag = False,
) -> None:
    """Extract CLIP embeddings of every picture under ROOT that has none by this encoder."""
    from flows.commands import embed_command, finish
    from tasks.options import EmbedOptions

    options = EmbedOptions(
        encoder=encoder,
        feature=feature,
        normalized=normalized,
        compute=compute(device, dtype, batch_size, threads, offline=offline),
    )
    summary = embed_command(root, options, on_lanes(lanes, timeout, max_failed_shards, engine))
    finish(summary, as_json=as_json)
