"""What a user may choose about a stage, as small frozen values that a flow takes as parameters."""

from dataclasses import dataclass
from importlib.util import find_spec

from storage.errors import ConfigurationError

ENGINES = ("local", "dask", "ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeOptions:
    """Where and how precisely to compute; `auto` is resolved once and then kept."""

    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: str = "auto"
    """auto, float32, bfloat16, float16, or int8 for captions; auto is half precision on a GPU,
    and on a CPU made for bfloat16 if the model is wide enough to gain, else float32."""
    batch_size: int | None = None
    """Pictures computed together; raise it on a large GPU."""
    threads: int | None = None
    """Threads of one worker on a CPU; None shares this machine's cores among the lanes."""
    offline: bool = False
    """Forbid fetching weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOptions:
    """How pictures become embeddings."""

    encoder: str = "nano"
    """nano, an open_clip `NAME[/PRETRAINED]`, or a local folder."""
    feature: str = "projected"
    """projected is shared with texts, pooled is the tower's before its projection."""
    normalized: bool | None = None
    """Whether embeddings are brought to length 1; None is the encoder's own way."""
    value: str = "float16"
    """How embeddings are stored: float16, or float32 for twice the size."""
    compute: ComputeOptions = ComputeOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """How tokens are chosen; what is left open is the model's own way."""

    name: str = ""
    """greedy, beam, clipcap, sample, top-k or top-p; empty is the model's own."""
    samples: int | None = None
    """Captions drawn for each image; the best is `caption`, all are kept in `captions`."""
    seed: int | None = None
    """Another seed draws other captions."""
    max_tokens: int | None = None
    """Cut captions here; None is the model's own length."""
    settings: tuple[str, ...] = ()
    """Any other setting of the strategy as `name=value`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionOptions:
    """How embeddings become captions."""

    model: str = "nano"
    """A preset, a model trained under this root (`name` or `name@fp8`), or a local folder."""
    run: str = ""
    """Name of the run; empty is `<model>-<fp8>`, which no other configuration can share."""
    encoder: str = ""
    """Folder of the model's encoder if it is a local one; else the model itself names it."""
    decode: DecodeOptions = DecodeOptions()
    score: bool | None = None
    """Score captions against their pictures: None if the text tower is at hand, True insists."""
    rerank: str = ""
    """Encoder that scores captions and chooses the best; empty is the one that the model reads,
    which then grades its own input. Pictures have to be embedded with it."""
    keep: int | None = None
    """Candidates kept for each image, best first; None keeps all."""
    embeddings: str = ""
    """A folder of embeddings in clip-retrieval's layout to caption; empty is the root's own."""
    embedding_scale: float | None = None
    """Multiplies stored embeddings of length 1 for a model that was trained on others."""
    compute: ComputeOptions = ComputeOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How a model is trained on a root's own captions."""

    recipe: str = "nano"
    """A named recipe: `nightcap models` lists them."""
    out: str = "model"
    """Name of the model under ROOT/models."""
    steps: int | None = None
    """Optimiser steps; None is the recipe's own."""
    language: str = ""
    """Language model in place of the recipe's: nano, a folder or an id of the hub."""
    faithful: bool = False
    """Train as the recipe's original did, flaws included."""
    settings: tuple[str, ...] = ()
    """Any other setting of the recipe as `name=value`."""
    seed: int = 0
    """Another seed gives another model of the same quality."""
    embeddings: str = ""
    """A folder of embeddings in clip-retrieval's layout to learn from; empty is the root's own."""
    encoder: str = ""
    """What made the stored embeddings, if you know it; the model will bear the name."""
    compute: ComputeOptions = ComputeOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneOptions:
    """How one machine is used."""

    lanes: int = 1
    """Worker processes that hold a model each, one per GPU; 0 works in this process."""
    timeout: float = 3600.0
    """Seconds one shard may take before its lane is ended and the shard tried again."""
    max_failed_shards: int = 0
    """More failed shards than this fail the flow; fewer end it CompletedWithFailures."""
    engine: str = "local"
    """local, dask or ray: a cluster of `lanes` processes on this machine; `dask@tcp://HOST:8786`
    or `ray@auto` joins one that is there."""

    def __post_init__(self) -> None:
        if self.kind not in ENGINES or (self.address and self.kind == "local"):
            raise ConfigurationError(
                f"--engine {self.engine!r} is none: give local, dask or ray, "
                "or a cluster's address as in dask@tcp://HOST:8786"
            )

    @property
    def kind(self) -> str:
        """local, dask or ray."""
        return self.engine.partition("@")[0]

    @property
    def address(self) -> str:
        """Of the cluster to join, empty for one of our own."""
        return self.engine.partition("@")[2]


def required(kind: str) -> None:
    """ConfigurationError if what the engine `kind` needs is not installed."""
    if kind != "local" and find_spec(f"prefect_{kind}") is None:
        raise ConfigurationError(
            f"--engine {kind} needs the extra {kind!r}: pip install 'nightcap[{kind}]'"
        )
