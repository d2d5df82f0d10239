"""Text to tokens for BLEU, ROUGE-L and CIDEr-D, near to what COCO's evaluation does with Java.

That is Stanford's PTB tokenizer, after which punctuation is dropped and case ignored. Here: lower
case; words are runs of letters and digits, joined by hyphens, dots, commas, colons or slashes
inside; English clitics ('s, n't, 're, …) stand alone; punctuation is dropped; every other sign,
such as an emoji, is a token. White space of any kind separates. Known differences: brackets are
dropped (PTB leaves `-lrb-`), and so is the dot of `ave.` and a slash that joins nothing.
"""

import re
import sys
import unicodedata

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'"})
_NOT = re.compile(r"(?<=\w)(n't)\b")
_CLITIC = re.compile(r"(?<=\w)('(?:s|re|ve|ll|d|m))\b")
_TOKEN = re.compile(r"n't|'(?:s|re|ve|ll|d|m)\b|(?:[a-z]\.){2,}|\w+(?:[-.,:/_]\w+)*|[^\w\s]")
_KEPT_SIGNS = "$%&#@"
_DROPPED = "`\ufe0f"


def tokenize(text: str) -> list[str]:
    """The tokens of `text`, none where it says nothing."""
    plain = unicodedata.normalize("NFC", text).translate(_APOSTROPHES).lower()
    split = _CLITIC.sub(r" \1", _NOT.sub(r" \1", plain))
    return [sys.intern(token) for token in _TOKEN.findall(split) if not _is_punctuation(token)]


def _is_punctuation(token: str) -> bool:
    """A lone sign of punctuation, or what joins and varies an emoji without being one."""
    if len(token) > 1 or token in _KEPT_SIGNS:
        return False
    return unicodedata.category(token)[0] in "PC" or token in _DROPPED
