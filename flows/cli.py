"""The `nightcap` command: one subcommand a flow, errors in one sentence, results as text or JSON.

Everything heavy is imported inside the commands, so that help answers at once.
"""

import sys

import typer

from captioner.errors import CaptionerError
from flows.choices import (
    Batch,
    CaptionColumns,
    Decode,
    DecodeSettings,
    Device,
    Dtype,
    Embeddings,
    EmbeddingScale,
    Encoder,
    Feature,
    Images,
    JsonFlag,
    LanesNumber,
    MaxFailed,
    MaxTokens,
    Model,
    ModelEncoder,
    Normalized,
    Offline,
    PathColumn,
    Pictures,
    Resize,
    RootUrl,
    RunName,
    Samples,
    SampleSeed,
    SamplesPerShard,
    Score,
    Source,
    Split,
    Threads,
    Timeout,
    compute,
    decoding,
    ingest_options,
    on_lanes,
    table_options,
)
from flows.cli_import import imports
from flows.cli_more import more
from flows.cli_train import training
from storage.errors import StorageError

app = typer.Typer(
    name="nightcap",
    help="Caption image collections in bulk: pictures in, Parquet with captions and scores out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # NAME[/PRETRAINED] is no markup
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def run(
    source: Source,
    root: RootUrl,
    model: Model = "nano",
    run_name: RunName = "",
    encoder: ModelEncoder = "",
    decode: Decode = "",
    samples: Samples = None,
    sample_seed: SampleSeed = None,
    max_tokens: MaxTokens = None,
    settings: DecodeSettings = None,
    score: Score = None,
    batch: Batch = "",
    samples_per_shard: SamplesPerShard = 10_000,
    resize: Resize = None,
    images: Images = "",
    path_column: PathColumn = "",
    caption_columns: CaptionColumns = None,
    split: Split = "",
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: Pictures = None,
    threads: Threads = None,
    lanes: LanesNumber = 1,
    timeout: Timeout = 3600.0,
    max_failed_shards: MaxFailed = 0,
    offline: Offline = False,
    as_json: JsonFlag = False,
) -> None:
    """Caption everything in SOURCE that has no caption under ROOT yet: the nightly job."""
    from flows.commands import finish, run_command
    from tasks.options import CaptionOptions

    table = table_options(images, path_column, caption_columns, split)
    summary = run_command(
        source,
        root,
        CaptionOptions(
            model=model,
            run=run_name,
            encoder=encoder,
            decode=decoding(decode, samples, sample_seed, max_tokens, settings),
            score=score,
            compute=compute(device, dtype, batch_size, threads, offline=offline),
        ),
        ingest_options(batch, samples_per_shard, resize, table),
        on_lanes(lanes, timeout, max_failed_shards),
    )
    finish(summary, as_json=as_json)


@app.command()
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
    as_json: JsonFlag = False,
) -> None:
    """Cut what is new in SOURCE into webdataset tars under ROOT."""
    from flows.commands import finish, shard_command

    table = table_options(images, path_column, caption_columns, split)
    summary = shard_command(
        source,
        root,
        ingest_options(batch, samples_per_shard, resize, table),
        on_lanes(lanes, timeout, max_failed_shards),
    )
    finish(summary, as_json=as_json)


@app.command()
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
    summary = embed_command(root, options, on_lanes(lanes, timeout, max_failed_shards))
    finish(summary, as_json=as_json)


@app.command()
def caption(
    root: RootUrl,
    model: Model = "nano",
    run_name: RunName = "",
    encoder: ModelEncoder = "",
    embeddings: Embeddings = "",
    embedding_scale: EmbeddingScale = None,
    decode: Decode = "",
    samples: Samples = None,
    sample_seed: SampleSeed = None,
    max_tokens: MaxTokens = None,
    settings: DecodeSettings = None,
    score: Score = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: Pictures = None,
    threads: Threads = None,
    lanes: LanesNumber = 1,
    timeout: Timeout = 3600.0,
    max_failed_shards: MaxFailed = 0,
    offline: Offline = False,
    as_json: JsonFlag = False,
) -> None:
    """Write captions and scores for every embedded picture under ROOT that has none in this run."""
    from flows.commands import caption_command, finish
    from tasks.options import CaptionOptions

    options = CaptionOptions(
        model=model,
        run=run_name,
        encoder=encoder,
        decode=decoding(decode, samples, sample_seed, max_tokens, settings),
        embeddings=embeddings,
        embedding_scale=embedding_scale,
        score=score,
        compute=compute(device, dtype, batch_size, threads, offline=offline),
    )
    summary = caption_command(root, options, on_lanes(lanes, timeout, max_failed_shards))
    finish(summary, as_json=as_json)


for part in (training, more, imports):
    app.registered_commands += part.registered_commands


def main() -> None:
    """Run the command; a user's mistake ends in one sentence and exit code 2, never a traceback."""
    as_json = "--json" in sys.argv
    try:
        app()
    except KeyboardInterrupt:
        fail("interrupted: what was committed stays, run it again to go on", 130, as_json=as_json)
    except (StorageError, CaptionerError) as error:
        configuration = isinstance(error, ValueError)
        fail(str(error), 2 if configuration else 1, as_json=as_json)


def fail(sentence: str, code: int, *, as_json: bool) -> None:
    """Say what is wrong and leave."""
    import json

    typer.echo(f"nightcap: {sentence}", err=True)
    if as_json:
        typer.echo(json.dumps({"command": sys.argv[1], "ok": False, "error": sentence}))
    raise SystemExit(code)
