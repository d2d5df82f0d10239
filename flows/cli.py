"""The `nightcap` command: a subcommand a flow, imports inside so that help answers at once."""

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
    Engine,
    Images,
    JsonFlag,
    KeepSamples,
    LanesNumber,
    MaxFailed,
    MaxTokens,
    Model,
    ModelEncoder,
    Offline,
    PathColumn,
    Pictures,
    Rerank,
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
from flows.cli_bench import benching
from flows.cli_curate import curating
from flows.cli_evaluate import judging
from flows.cli_export import handing_on
from flows.cli_import import imports
from flows.cli_keep import keeping
from flows.cli_more import more
from flows.cli_review import reviewing
from flows.cli_serve import serving
from flows.cli_stages import stages
from flows.cli_train import training
from flows.locking import lock_writers
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
    keep_samples: KeepSamples = None,
    rerank: Rerank = "",
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
    engine: Engine = "local",
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
            rerank=rerank,
            keep=keep_samples,
            compute=compute(device, dtype, batch_size, threads, offline=offline),
        ),
        ingest_options(batch, samples_per_shard, resize, table),
        on_lanes(lanes, timeout, max_failed_shards, engine),
    )
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
    keep_samples: KeepSamples = None,
    rerank: Rerank = "",
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
    engine: Engine = "local",
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
        rerank=rerank,
        keep=keep_samples,
        compute=compute(device, dtype, batch_size, threads, offline=offline),
    )
    summary = caption_command(root, options, on_lanes(lanes, timeout, max_failed_shards, engine))
    finish(summary, as_json=as_json)


PARTS = (
    *(stages, training, more, imports, judging, curating, handing_on),
    *(reviewing, keeping, benching, serving),
)
for part in PARTS:
    app.registered_commands += part.registered_commands
lock_writers(app)


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
