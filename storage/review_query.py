"""Which rows a reviewer wants to see, and in what order: from plain words to SQL with values."""

from dataclasses import dataclass
from typing import Any

from storage.errors import ConfigurationError

ORDERS = {
    "row": "0.0::double",
    "worst": "coalesce(r.score::double, 9e9)",
    "best": "coalesce(-r.score::double, 9e9)",
}
"""What each order sorts by, before the row's number; rows without a score come last."""
STATES = {
    "all": "",
    "captioned": "r.error_code = ''",
    "failed": "r.error_code <> ''",
}
REVIEWS = {
    "any": "",
    "open": "d.action is null",
    "done": "d.action is not null",
    "accept": "d.action = 'accept'",
    "edit": "d.action = 'edit'",
    "reject": "d.action = 'reject'",
}
SEARCHED = "lower(concat_ws(chr(10), caption, orig_caption, path, key, error_code)) as searched"
"""What a text is looked for in, made once: six lowered columns a question would take four times."""
_FOUND = "(contains(r.searched, lower(?)) or contains(lower(d.caption), lower(?)))"
FROM = "from rows r left join decisions d using (id)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A choice of rows; ConfigurationError if a word is none of those known."""

    state: str = "all"
    review: str = "any"
    text: str = ""
    """Found, case aside, in a caption, the original caption, the path, key or error code."""
    low: float | None = None
    """Scores from here."""
    high: float | None = None
    """Scores up to here."""
    order: str = "row"

    def __post_init__(self) -> None:
        for name, known in (("state", STATES), ("review", REVIEWS), ("order", ORDERS)):
            if getattr(self, name) not in known:
                raise ConfigurationError(
                    f"{name} {getattr(self, name)[:40]!r} is none of {', '.join(known)}"
                )

    def where(self) -> tuple[str, list[Any]]:
        """The condition, and the values it needs."""
        parts = [part for part in (STATES[self.state], REVIEWS[self.review]) if part]
        values: list[Any] = []
        if self.text:
            parts.append(_FOUND)
            values += [self.text] * 2
        for sign, border in ((">=", self.low), ("<=", self.high)):
            if border is not None:
                parts.append(f"r.score {sign} ?::double")
                values.append(border)
        return " and ".join(parts) or "true", values


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands in an order: what comes after it is found without counting up to it."""

    rank: float
    id: int

    def __str__(self) -> str:
        return f"{self.rank!r}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> "Place":
        """From `str(place)`; ConfigurationError if it is none."""
        rank, _, number = text.partition(":")
        try:
            return cls(float(rank), int(number))
        except ValueError as error:
            raise ConfigurationError(f"{text[:40]!r} is no place in a list of rows") from error
