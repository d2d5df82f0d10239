"""Embed one shard once more, because pictures in it failed for a reason that may be gone."""

from captioner.devices import Numerics
from storage.embeddings import embedding_file_schema, embedding_settings, embedding_store
from storage.errors import ConfigurationError
from storage.layout import ShardName, open_root
from storage.receipts import Receipt
from storage.retrying import commit_attempt
from storage.shards import ShardStore
from tasks.settings.common import space_form
from tasks.units.embed import embedded
from tasks.units.jobs import EmbedJob
from tasks.units.loaded import encoder_in_lane


def retry_shard(job: EmbedJob) -> Receipt:
    """The receipt of the next generation, in which every picture was tried again.

    The whole shard is embedded, so that what succeeds has the bits of a first success.
    """
    root, shard = open_root(job.root), ShardName.parse(job.shard)
    settled = embedding_settings(root).read(job.space)
    if settled is None:
        raise ConfigurationError(f"there are no settings for embeddings {job.space!r}")
    numerics = Numerics(**settled.resolved["numerics"])
    encoder = encoder_in_lane(job.encoder, space_form(settled), numerics)
    schema = embedding_file_schema(settled)
    tables = embedded(ShardStore(root).samples(shard), encoder, numerics, schema)
    return commit_attempt(embedding_store(root, settled), shard, tables, schema)
