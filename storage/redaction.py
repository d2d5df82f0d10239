"""Credentials in addresses: told apart from wildcards, and taken out of what clients say."""

import re

_SECRET = re.compile(
    r"://[^/\s]*@|[?&](x-amz-[a-z-]+|x-goog-[a-z-]+|awsaccesskeyid|signature|sig|token"
    r"|access_token|secret|key)=",
    re.IGNORECASE,
)
_TOLD = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^/\s'\"]*@)?(?P<path>[^\s'\"?]*)[^\s'\"]*"
)


def holds_secret(url: str) -> bool:
    """Whether `url` carries a user or a signature; a plain `?` is a wildcard of a pattern."""
    return _SECRET.search(url) is not None


def redact_text(text: str) -> str:
    """`text` in which every URL has lost user, password and query: clients quote whole requests."""
    return _TOLD.sub(r"\g<scheme>\g<path>", text)
