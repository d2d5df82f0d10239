"""What each rule of a recipe takes away, in its place and alone.

Rules become SQL conditions over the table `measured` (`storage.curate_rows`); shares and
duplicates look at all rows first.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import duckdb

from storage.curate_recipe import Recipe
from storage.curate_rule import Rule
from storage.duplicates import DuplicateOptions, find_in
from storage.layout import Root
from storage.tables import one


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """What one rule did."""

    name: str
    rule: str
    came: int
    """Rows that the rules before it left."""
    removed: int
    removed_alone: int
    """Rows that it would remove if it were the only rule."""
    left: int
    border: float | None = None
    """For a share: the value that just stays."""

    def facts(self) -> dict[str, Any]:
        """As waterfall.json says it."""
        return {
            "name": self.name,
            "rule": self.rule,
            "in": self.came,
            "removed": self.removed,
            "removed_alone": self.removed_alone,
            "left": self.left,
            "border": self.border,
        }


class Judge:
    """Turns rules into SQL conditions over the table `measured`, one after the other."""

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        recipe: Recipe,
        root: Root,
        duplicates: DuplicateOptions,
    ) -> None:
        self.database = database
        self.recipe = recipe
        self.root = root
        self.duplicates = duplicates
        self.passes: dict[str, str] = {}
        """By rule name: the condition that keeps a row, never null."""
        self.borders: dict[str, float | None] = {}

    def waterfall(self) -> list[Fall]:
        """Every rule's part, in order."""
        alone: dict[str, str] = {}
        for at, rule in enumerate(self.recipe.rules):
            self.passes[rule.name], alone[rule.name] = self._conditions(at, rule)
        left = [" and ".join(["true", *list(self.passes.values())[:n]])
                for n in range(len(self.passes) + 1)]  # fmt: skip
        counts = [f"count(*) filter (where {condition})" for condition in left]
        counts += [f"count(*) filter (where not ({condition}))" for condition in alone.values()]
        found = one(self.database, f"select {', '.join(counts)} from measured")
        steps, removed_alone = found[: len(left)], found[len(left) :]
        return [
            Fall(
                name=rule.name,
                rule=describe(rule),
                came=came,
                removed=came - stayed,
                removed_alone=single,
                left=stayed,
                border=self.borders.get(rule.name),
            )
            for rule, (came, stayed), single in zip(
                self.recipe.rules, pairwise(steps), removed_alone, strict=True
            )
        ]

    def _conditions(self, at: int, rule: Rule) -> tuple[str, str]:
        """In its place, and as if it were the only rule."""
        before = " and ".join(["true", *self.passes.values()])
        if rule.duplicates:
            return self._duplicates(at, rule, before)
        keep = str(rule.nulls == "keep").lower()
        if not rule.is_share:
            condition = f"coalesce(r{at}, {keep})"
            return condition, condition
        condition, border = self._share(at, rule, before if rule.of == "left" else "true")
        self.borders[rule.name] = border
        alone = condition if rule.of == "all" else self._share(at, rule, "true")[0]
        return f"coalesce({condition}, {keep})", f"coalesce({alone}, {keep})"

    def _share(self, at: int, rule: Rule, among: str) -> tuple[str, float | None]:
        """The border is the value at place int(rows * share) from that end, as DataComp has it."""
        share = rule.top if rule.top is not None else rule.bottom
        order, sign = ("desc", ">=") if rule.top is not None else ("asc", "<=")
        where = f"r{at} is not null and {among}"
        (count,) = one(self.database, f"select count(*) from measured where {where}")
        place = int(count * (share or 0.0))
        query = (
            f"select r{at} from measured where {where} order by 1 {order} limit 1 offset {place}"
        )
        border = one(self.database, query)
        if not border:
            return f"r{at} is not null", None
        name = f"border{at}_{'all' if among == 'true' else 'left'}"
        self.database.execute(f"create temp table {name} as {query}")
        return f"r{at} {sign} (select * from {name})", float(border[0])

    def _duplicates(self, at: int, rule: Rule, before: str) -> tuple[str, str]:
        """Groups are of all rows; the best of those that are left stays."""
        assert rule.duplicates  # noqa: S101 - asked for by the caller
        with find_in(self.database, self.root, self.duplicates, rule.duplicates) as table:
            self.database.execute(f"create temp table groups{at} as select * from {table}")
        conditions = []
        for kind, among in (("left", before), ("alone", "true")):
            self.database.execute(
                f"create temp table lost{at}_{kind} as select shard, key from ("
                "select m.shard, m.key, g.dup_against, row_number() over (partition by "
                "coalesce(g.dup_group, m.shard || '/' || m.key) "
                f"order by m.r{at} desc nulls last, m.shard, m.key) as place "
                f"from measured m join groups{at} g using (shard, key) where {among}) "
                "where place > 1 or dup_against is not null"
            )
            lost = f"(select shard, key from lost{at}_{kind})"
            conditions.append(f"(shard, key) not in {lost}")
        return conditions[0], conditions[1]


def describe(rule: Rule) -> str:
    """The rule in a few signs, for people."""
    if rule.duplicates:
        against = f", none of {rule.duplicates.against}" if rule.duplicates.against else ""
        return f"one of duplicates by {', '.join(rule.duplicates.by)}{against}"
    parts = [f"{rule.column} {sign} {limit:g}" for sign, limit in rule.limits.items()]
    shares = {"top": rule.top, "bottom": rule.bottom}
    parts += [f"{end} {share:g} of {rule.of} by {rule.column}"
              for end, share in shares.items() if share is not None]  # fmt: skip
    for verb, values in (("in", rule.within), ("not in", rule.without)):
        parts += [f"{rule.column} {verb} {', '.join(map(str, values))}"] if values else []
    for verb, pattern in (("matches", rule.matches), ("matches not", rule.not_matches)):
        parts += [f"{rule.column} {verb} {pattern}"] if pattern else []
    return " and ".join(parts) + (f" (by {rule.scorer})" if rule.scorer else "")
