"""What is handed to a lane: names of what to do, never pixels or tensors."""

from dataclasses import dataclass

from storage.sources import TableOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """One shard to cut."""

    root: str
    shard: str
    """`<batch>/<stem>`."""
    source: str
    table: TableOptions = TableOptions()
    """How to read the source if it is a table."""

    @property
    def label(self) -> str:
        """Name of the task run."""
        return f"shard-{self.shard}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedJob:
    """One shard to embed."""

    root: str
    shard: str
    space: str
    """Folder of the settings, under ROOT/embeddings."""
    encoder: str
    """What the encoder is loaded from."""
    refused: tuple[tuple[int, str], ...] = ()
    """Rows that ended the process that worked on them, with their codes: left unopened."""

    @property
    def label(self) -> str:
        """Name of the task run."""
        return f"embed-{self.shard}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """One model to train."""

    root: str
    name: str
    version: str
    """Folder of the settings, under ROOT/models/<name>."""

    @property
    def label(self) -> str:
        """Name of the task run."""
        return f"train-{self.shard}"

    @property
    def shard(self) -> str:
        """What stands for the shard in a summary: a training has none."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionJob:
    """One shard to caption."""

    root: str
    shard: str
    run: str
    """Folder of the settings, under ROOT/captions."""
    model: str
    """What the model is loaded from."""
    encoder: str
    """What the scoring encoder is loaded from, empty for no scores."""

    @property
    def label(self) -> str:
        """Name of the task run."""
        return f"caption-{self.shard}"
