"""By what two rows count as duplicates of each other, and how near is near."""

from dataclasses import dataclass
from typing import Any

from storage.errors import ConfigurationError

KINDS = ("sha256", "phash", "embedding", "phash+embedding")
DISTANCE = 4
"""Bits by which perceptual hashes may differ where nothing else confirms them."""
CONFIRMED_DISTANCE = 8
"""The same where the embeddings must agree as well."""
COSINE = 0.97
"""Least cosine of embeddings where nothing else confirms it."""
CONFIRMED_COSINE = 0.9
"""The same where the hashes must agree as well."""
MAX_DISTANCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Methods:
    """Rows are duplicates if any of `by` says so; `phash+embedding` asks both."""

    by: tuple[str, ...] = ("sha256", "phash+embedding")
    distance: int | None = None
    cosine: float | None = None
    against: str = ""
    """A held-out set whose pictures are to be found: a root, or a folder of Parquet."""

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.by if kind not in KINDS]
        if unknown or not self.by:
            raise ConfigurationError(
                f"duplicates cannot be told by {unknown or 'nothing'}: give {', '.join(KINDS)}"
            )
        if self.distance is not None and not 0 <= self.distance <= MAX_DISTANCE:
            raise ConfigurationError(f"distance {self.distance} is not 0 to {MAX_DISTANCE} bits")
        if self.cosine is not None and not 0 < self.cosine <= 1:
            raise ConfigurationError(f"cosine {self.cosine:g} is not above 0 and up to 1")

    def distance_for(self, kind: str) -> int:
        """Bits within which hashes count as equal."""
        default = CONFIRMED_DISTANCE if kind == "phash+embedding" else DISTANCE
        return default if self.distance is None else self.distance

    def cosine_for(self, kind: str) -> float:
        """Cosine from which embeddings count as equal."""
        default = CONFIRMED_COSINE if kind == "phash+embedding" else COSINE
        return default if self.cosine is None else self.cosine

    @property
    def needs_embeddings(self) -> bool:
        """Whether any of them looks at embeddings."""
        return any("embedding" in kind for kind in self.by)

    @property
    def needs_phash(self) -> bool:
        """Whether any of them looks at perceptual hashes."""
        return any("phash" in kind for kind in self.by)


def read_methods(body: dict[str, Any], where: str) -> Methods | None:
    """The methods of a recipe's rule; None if it is no rule on duplicates."""
    if "duplicates" not in body:
        if body:
            raise ConfigurationError(f"{where}: {min(body)!r} goes with 'duplicates' only")
        return None
    given = body["duplicates"]
    kinds = given if isinstance(given, list) else str(given).replace(" ", "").split(",")
    values: dict[str, Any] = {"by": tuple(map(str, kinds))}
    for key, types in (("distance", (int,)), ("cosine", (int, float)), ("against", (str,))):
        if key in body:
            if isinstance(body[key], bool) or not isinstance(body[key], types):
                raise ConfigurationError(f"{where}: {key} cannot be {body[key]!r}")
            values[key] = body[key]
    return Methods(**values)
