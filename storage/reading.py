"""Finds what a run or a training reads by the name of its space, wherever that was made."""

from storage.embedded import EmbeddingSource, MadeHere
from storage.embeddings import embedding_settings
from storage.layout import Root
from storage.settled import Settled
from storage.stored import STAGE, StoredEmbeddings, stored_settings


def read_space(root: Root, name: str) -> Settled | None:
    """The settings of the embeddings called `name`; None if they are gone."""
    return embedding_settings(root).read(name) or stored_settings(root).read(name)


def is_stored(space: Settled) -> bool:
    """Whether others made these embeddings."""
    return space.resolved.get("stage") == STAGE


def embedding_source(root: Root, space: Settled) -> EmbeddingSource:
    """The embeddings that `space` names."""
    return StoredEmbeddings(root, space) if is_stored(space) else MadeHere(root, space)
