"""Names for the shards of a batch."""

import re
from itertools import count


class Stems:
    """Names for shards: numbers, or for tars of others the names they have."""

    def __init__(self, per_shard: int, *, tars: bool) -> None:
        self._per_shard = 1 if tars else per_shard
        self._given = 0
        self.tars: set[str] | None = {"plan"} if tars else None

    @property
    def count(self) -> int:
        """Shards named so far."""
        return -(-self._given // self._per_shard)

    def next(self, path: str) -> str:
        """The stem of the shard that the next row, of `path`, belongs to.

        A tar's own stem is kept but for `-` and `.`, which end a stem in file names; an equal one
        from another folder gets a number in front.
        """
        number, self._given = self._given // self._per_shard, self._given + 1
        if self.tars is None:
            return f"{number:05}"
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", path.rpartition("/")[2].rpartition(".")[0])
        stem = next(
            name
            for n in count()
            if (name := f"{n}_{plain}" if n else plain or "0") not in self.tars
        )
        self.tars.add(stem)
        return stem
