"""Curation: which rows of a run a recipe keeps, and a waterfall that says why the others went.

The run is only read. Its rows stream once through DuckDB, which holds the outcome of each rule
and no text; what does not fit in memory goes to a scratch folder.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from storage.captions import caption_store, only_run, run_settings
from storage.commit import scratch
from storage.curate_judge import Fall, Judge
from storage.curate_output import write_curation
from storage.curate_recipe import Recipe
from storage.curate_rows import check_scorers, measure
from storage.duplicates import DuplicateOptions
from storage.errors import ConfigurationError
from storage.fingerprint import fingerprint
from storage.languages import language_of
from storage.layout import Root, open_root
from storage.outputs import OutputStore
from storage.settled import Settled
from storage.tables import connect, one

VERSION = 1
"""Raised when the same recipe would keep other rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurateOptions:
    """What to curate, and where the outcome goes."""

    run: str = ""
    """May be left out where there is only one."""
    out: str = ""
    """Folder of the outcome; by default ROOT/curations/<recipe>-<fp8>."""
    dry_run: bool = False
    threads: int = 2
    language: Callable[[str], str] = language_of
    """What tells the language of a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curation:
    """What a recipe made of a run."""

    recipe: Recipe
    run: str
    fingerprint: str
    """Of the recipe and of every file that was read."""
    rows: int
    kept: int
    waterfall: tuple[Fall, ...]
    outputs: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """Folder name: recipe and fingerprint."""
        return f"{self.recipe.name}-{self.fingerprint[:8]}"


def curate(root: str, recipe: Recipe, options: CurateOptions) -> Curation:
    """Judge every row of the run, newest of its path, and write ids, rows and waterfall.

    Raises ConfigurationError for a column that is null in every captioned row, a score by another
    encoder than a rule names, a regular expression that is none, or an output folder that holds
    something else.
    """
    place = open_root(root)
    settled = _run(place, options.run)
    store = caption_store(place, settled)
    check_scorers(recipe, settled, store)
    with scratch() as folder, connect(folder, options.threads) as database:
        measure(database, recipe, root, settled, options.language)
        duplicates = DuplicateOptions(run=settled.name, threads=options.threads)
        judge = Judge(database, recipe, place, duplicates)
        falls = judge.waterfall()
        total = int(one(database, "select count(*) from measured")[0])
        done = Curation(
            recipe=recipe,
            run=settled.name,
            fingerprint=_fingerprint(recipe, settled, store),
            rows=total,
            kept=falls[-1].left if falls else total,
            waterfall=tuple(falls),
        )
        if options.dry_run:
            return done
        home = options.out or f"{place.url}/curations/{done.name}"
        outputs = write_curation(database, judge.passes, done, home, folder)
    return replace(done, outputs=outputs)


def _run(root: Root, name: str) -> Settled:
    name = name or only_run(root)
    settled = run_settings(root).read(name)
    if settled is None:
        raise ConfigurationError(f"there is no run {name!r} under this root")
    return settled


def _fingerprint(recipe: Recipe, settled: Settled, store: OutputStore) -> str:
    read = [record.receipt.files[0].sha256 for batch in store.batches()
            for record in store.receipts(batch).values()]  # fmt: skip
    facts = {"version": VERSION, "recipe": recipe.facts(), "run": settled.fingerprint}
    return fingerprint({**facts, "files": read})
