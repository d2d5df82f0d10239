"""What can be asked of an export, checked before any work, and what it answers."""

from dataclasses import dataclass, field

from storage.errors import ConfigurationError
from storage.export_files import LAYOUTS
from storage.export_rows import Counts, Naming

FORMATS = (*LAYOUTS, "webdataset", "parquet")
WITH_PICTURES = ("imagefolder", "webdataset")
"""Formats that are nothing without their pictures."""
NAMING: dict[str, tuple[Naming, ...]] = {
    "webdataset": ("member",),
    "parquet": ("none",),
    **dict.fromkeys(LAYOUTS, ("path", "key")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What to export, and how."""

    to: str
    """One of FORMATS."""
    run: str = ""
    """May be left out where there is only one."""
    ids: str = ""
    """The ids.parquet of a curation, or any Parquet with shard and key; empty takes every row."""
    pictures: bool | None = None
    """Whether pictures come along; None: where the format needs them."""
    names: str = ""
    """`path` (default) or `key`: what files are called by."""
    samples_per_tar: int = 10_000
    max_bytes: int = 500_000_000
    """Of one Parquet file."""
    license: str = "unknown"
    title: str = ""
    threads: int = 2

    def __post_init__(self) -> None:
        if self.to not in FORMATS:
            raise ConfigurationError(f"no format {self.to!r}: give one of {', '.join(FORMATS)}")
        if self.pictures is False and self.to in WITH_PICTURES:
            raise ConfigurationError(f"--to {self.to} cannot do without its pictures")
        if self.pictures and self.to == "parquet":
            raise ConfigurationError("--to parquet takes no pictures: use --to webdataset")
        if self.names and (self.to not in LAYOUTS or self.names not in NAMING[self.to]):
            raise ConfigurationError(
                f"--to {self.to} takes no --names {self.names!r}: path or key, with one file a row"
            )
        if self.samples_per_tar < 1 or self.max_bytes < 1 << 20:
            raise ConfigurationError("a tar holds at least 1 picture, a Parquet file 1 MB")

    @property
    def naming(self) -> Naming:
        """How files are called."""
        first, *others = NAMING[self.to]
        return next((name for name in others if name == self.names), first)

    @property
    def with_pictures(self) -> bool:
        """Whether pictures are read."""
        return self.to in WITH_PICTURES or bool(self.pictures)


@dataclass(slots=True, kw_only=True)
class Exported:
    """What came of it."""

    run: str
    counts: Counts
    written: int = 0
    """Rows that are in the export."""
    empty: int = 0
    """Rows left out because their caption is empty and the format refuses that."""
    failed_shards: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
