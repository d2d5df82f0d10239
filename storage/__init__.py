"""Where everything lies and how it is committed: URLs, tars, Parquet, receipts; no models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.captions import open_captions

__all__ = ["open_captions"]


def __getattr__(name: str) -> Any:
    """Import pyarrow only for those who read."""
    if name != "open_captions":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from storage.captions import open_captions as found  # noqa: PLC0415

    return found
