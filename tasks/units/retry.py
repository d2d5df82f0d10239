"""Embed one shard once more, because pictures in it failed for a reason that may be gone."""

from storage.embeddings import embedding_store
from storage.receipts import Receipt
from storage.retrying import commit_attempt
from tasks.units.embed import Work
from tasks.units.jobs import EmbedJob


def retry_shard(job: EmbedJob) -> Receipt:
    """The receipt of the next generation, in which every picture was tried again.

    The whole shard is embedded, so that what succeeds has the bits of a first success.
    """
    work = Work.of(job)
    store = embedding_store(work.root, work.settled)
    return commit_attempt(store, work.shard, work.rows(work.samples()), work.schema)
