"""What can go wrong between a URL and its rows; every error is one sentence for its reader.

`ConfigurationError` is the user's to mend and stops a run before any work; `ShardError` costs one
shard; `StoreUnavailable` may pass by itself, and is the only one worth a retry.
"""


class StorageError(Exception):
    """Anything storage raises on purpose."""


class ConfigurationError(StorageError, ValueError):
    """A source, root, plan or option that cannot be used as it stands."""


class StoreUnavailable(StorageError, OSError):
    """A read or write that failed for a reason that may pass: network, throttling, a busy disk."""


class ShardError(StorageError):
    """One shard that cannot be read or written; the others are not concerned."""


class TarError(ShardError):
    """A tar that is cut, damaged, joined, or not a tar: some of its members cannot be trusted."""


class ReceiptError(ShardError):
    """A receipt that is cut, edited or of another format."""


class CommitConflict(ShardError):
    """Another writer committed something else for the same shard: neither may be believed."""


class SchemaError(ShardError):
    """Rows that are not what their schema says, or not as many as promised."""
