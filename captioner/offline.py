"""Whether weights may be fetched."""

import os


def is_offline(offline: bool) -> bool:
    """Whether the caller forbids fetching, or the hub's own HF_HUB_OFFLINE does."""
    return offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
