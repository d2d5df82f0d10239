"""Finds what a run or a training reads by the name of its space, wherever that was made."""

from dataclasses import replace

from storage.embedded import EmbeddingSource, MadeHere
from storage.embeddings import embedding_settings
from storage.layout import Root
from storage.paired import Paired
from storage.settled import Settled
from storage.stored import STAGE, StoredEmbeddings, stored_settings


def read_space(root: Root, name: str) -> Settled | None:
    """The settings of the embeddings called `name`; None if they are gone."""
    return embedding_settings(root).read(name) or stored_settings(root).read(name)


def run_space(root: Root, run: Settled) -> Settled | None:
    """The embeddings that `run` reads, its scorer's beside them; None if they are gone."""
    space = read_space(root, run.resolved["embeddings"]["space"])
    if not space or "rerank" not in run.resolved:
        return space
    scored = read_space(root, run.resolved["rerank"]["space"])
    return scored and beside(space, scored)


def beside(space: Settled, scored: Settled) -> Settled:
    """`space`, read with the embeddings of `scored` beside its own."""
    return replace(space, resolved={**space.resolved, "scored_in": scored.name})


def scoring_space(root: Root, space: Settled) -> Settled | None:
    """The embeddings by which captions are scored: those beside, or else `space` itself."""
    name = space.resolved.get("scored_in")
    return read_space(root, name) if name else space


def is_stored(space: Settled) -> bool:
    """Whether others made these embeddings."""
    return space.resolved.get("stage") == STAGE


def embedding_source(root: Root, space: Settled) -> EmbeddingSource:
    """The embeddings that `space` names."""
    first = StoredEmbeddings(root, space) if is_stored(space) else MadeHere(root, space)
    scored = scoring_space(root, space)
    return first if scored in (None, space) else Paired(first, MadeHere(root, scored))
