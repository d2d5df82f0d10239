"""The rows of a run as a recipe's rules see them: an outcome for each rule, and no text."""

from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pyarrow as pa

from storage.captions import open_captions
from storage.curate_columns import COLUMNS, is_score
from storage.curate_recipe import Recipe
from storage.curate_rule import Rule
from storage.errors import ConfigurationError, StorageError
from storage.outputs import OutputStore
from storage.parquet import read_schema
from storage.schema import facts_of
from storage.settled import Settled
from storage.tables import one

_KEPT = ("shard", "key", "sha256", "status")


def check_scorers(recipe: Recipe, settled: Settled, store: OutputStore) -> None:
    """ConfigurationError unless all scores that the rules look at are by the encoder they name."""
    rules = [rule for rule in recipe.rules if rule.column and is_score(rule.column)]
    if not rules:
        return
    names = {str(settled.resolved.get("scorer", ""))}
    for batch in store.batches():
        for record in store.receipts(batch).values():
            url = store.root.absolute(record.receipt.files[0].url)
            names.add(facts_of(read_schema(url)).get("scorer", ""))
    for rule in rules:
        for scorer in sorted(names - {rule.scorer}):
            by = f"scored by {scorer!r}" if scorer else "not scored"
            raise ConfigurationError(
                f"rule {rule.name!r} is meant for scores by {rule.scorer!r}, but run "
                f"{settled.name!r} is {by}: caption again with that encoder's scores, or give "
                f"--set scorer={scorer or 'NAME'} and a limit of its own"
            )


def measure(
    database: duckdb.DuckDBPyConnection,
    recipe: Recipe,
    root: str,
    settled: Settled,
    language: Callable[[str], str],
) -> None:
    """Fill the table `measured`: identity, status, and r0, r1, … for the rules.

    A test gives true, false or null where there is no value; a share and a rule on duplicates
    give the value itself. Raises ConfigurationError for a column without any value.
    """
    needed = [*_KEPT, *(name for rule in recipe.rules for name in _needs(rule))]
    reader = open_captions(root, settled.name, columns=list(dict.fromkeys(needed)))
    _check_patterns(database, recipe)
    broken: list[StorageError] = []
    database.register("rows", _with_measures(reader, recipe, language, broken))
    values: list[Any] = []
    outcomes = [f"{_outcome(rule, values)} as r{at}" for at, rule in enumerate(recipe.rules)]
    selected = ", ".join([*_KEPT, *outcomes])
    try:
        database.execute(f"create table measured as select {selected} from rows", values)
    except duckdb.Error as error:
        if broken:  # DuckDB wraps what went wrong while it was given rows
            raise broken[0] from error
        raise
    database.unregister("rows")
    _refuse_empty(database, recipe, settled)


def _check_patterns(database: duckdb.DuckDBPyConnection, recipe: Recipe) -> None:
    for rule in recipe.rules:
        pattern = rule.matches or rule.not_matches
        try:
            database.execute("select regexp_matches('', ?)", [pattern])
        except duckdb.Error as error:
            raise ConfigurationError(
                f"rule {rule.name!r}: {pattern!r} is no RE2 expression ({error})"
            ) from error


def _needs(rule: Rule) -> list[str]:
    return COLUMNS[_looks_at(rule)].needs(rule.text)


def _looks_at(rule: Rule) -> str:
    return rule.keep if rule.duplicates else rule.column


def _value(rule: Rule) -> str:
    """The column's value as SQL; not a number counts as null."""
    column = COLUMNS[_looks_at(rule)]
    if column.measure:
        return f'"{rule.column}:{rule.text}"'
    value = f"({column.expression(rule.text)})"
    if column.kind == "text":
        return value
    kind = "float" if column.kind == "real" else "double"
    return f"(case when isnan({value}::{kind}) then null else {value}::{kind} end)"


def _outcome(rule: Rule, values: list[Any]) -> str:
    """The rule as SQL over `rows`; what it compares with goes to `values`.

    Stored reals are compared as float32, so that 0.3 is reached by what was stored for 0.3.
    """
    value = _value(rule)
    if rule.duplicates or rule.is_share:
        return value
    column = COLUMNS[rule.column]
    kind = {"real": "float", "number": "double", "text": "varchar"}[column.kind]
    tests = []
    for sign, limit in rule.limits.items():
        values.append(limit)
        tests.append(f"{value} {sign} ?::{kind}")
    for word, listed in (("in", rule.within), ("not in", rule.without)):
        if listed:
            values += [str(one) if kind == "varchar" else one for one in listed]
            tests.append(f"{value} {word} ({', '.join([f'?::{kind}'] * len(listed))})")
    for word, pattern in (("", rule.matches), ("not ", rule.not_matches)):
        if pattern:
            values.append(pattern)
            tests.append(f"{word}regexp_matches({value}, ?)")
    return f"({' and '.join(tests)})"


def _with_measures(
    reader: pa.RecordBatchReader,
    recipe: Recipe,
    language: Callable[[str], str],
    broken: list[StorageError],
) -> pa.RecordBatchReader:
    """The rows with a column `measure:text` for each measure that is a function of Python."""
    wanted = {
        (rule.column, rule.text): COLUMNS[rule.column].measure
        for rule in recipe.rules
        if rule.column and COLUMNS[rule.column].measure
    }
    functions = {
        (name, text): language if name == "language" else function
        for (name, text), function in wanted.items()
    }
    kinds = {"text": pa.string(), "number": pa.float64()}
    fields = [pa.field(f"{name}:{text}", kinds[COLUMNS[name].kind]) for name, text in functions]
    schema = pa.schema([*reader.schema, *fields])

    def measured(batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = list(batch.columns)
        for ((_, text), function), field in zip(functions.items(), fields, strict=True):
            assert function  # noqa: S101 - filtered above
            texts = batch.column(text).to_pylist()
            found = [None if one is None else function(one) for one in texts]
            columns.append(pa.array(found, field.type))
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from map(measured, reader)
        except StorageError as error:
            broken.append(error)
            raise

    return pa.RecordBatchReader.from_batches(schema, batches())


def _refuse_empty(database: duckdb.DuckDBPyConnection, recipe: Recipe, settled: Settled) -> None:
    """A column that no captioned row has a value in would drop them all: that is a mistake."""
    counts = [f"count(r{at})" for at in range(len(recipe.rules))]
    counted = ", ".join(["count(*)", *counts])
    captioned, *there = one(
        database,
        f"select {counted} from measured where status = 'ok'",
    )
    for rule, count in zip(recipe.rules, there, strict=True):
        if captioned and not count and not rule.duplicates:
            made = " or ".join(_needs(rule))
            why = "" if made == rule.column else f", because {made} is"
            hint = "; --set text=caption judges the captions" if "orig_caption" in made else ""
            raise ConfigurationError(
                f"rule {rule.name!r}: {rule.column!r} is null in every captioned row of run "
                f"{settled.name!r}{why}: give --set {rule.name}.off=true to leave it out{hint}"
            )
