"""What a rule may look at: the columns of a run, and measures taken of them row by row.

A measure is either SQL over a run's own columns or a plain function of one text; `{text}` and
`{sim}` stand for the recipe's text column and its score.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from storage.languages import language_of
from storage.schema import CAPTIONS

TEXTS = ("caption", "orig_caption")
SIM = {"caption": "clip_sim", "orig_caption": "orig_clip_sim"}
"""Which score belongs to which text."""

# Runs of what str.split() does not take for white space; braces doubled for str.format.
_WORD = (
    r"[^\t-\r\x{{1c}}-\x{{20}}\x{{85}}\x{{a0}}\x{{1680}}\x{{2000}}-\x{{200a}}"
    r"\x{{2028}}\x{{2029}}\x{{202f}}\x{{205f}}\x{{3000}}]+"
)
TAIL = 128
"""Characters at the end of a text in which repeats are looked for: looping shows there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Something that every row has a value of, or null."""

    about: str
    kind: str
    """`real` (compared in float32, as stored), `number` or `text`."""
    sql: str = ""
    measure: Callable[[str], float | str] | None = None
    """Used instead of SQL on the recipe's text."""

    def needs(self, text: str) -> list[str]:
        """The columns of the run that it is made from."""
        if self.measure:
            return [text]
        return [name for name in CAPTIONS.names if name in _words(self.expression(text))]

    def expression(self, text: str) -> str:
        """As SQL."""
        return self.sql.format(text=text, sim=SIM[text])


def word_repetition(text: str) -> float:
    """Share of the words (lower case) that stand earlier in the text already."""
    words = text.lower().split()
    return 1 - len(set(words)) / len(words) if words else 0.0


def ngram_repetition(text: str) -> float:
    """Share of the groups of three words that stand earlier in the text already."""
    words = text.lower().split()
    groups = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(groups)) / len(groups) if groups else 0.0


def longest_repeat(text: str) -> int:
    """Characters of the longest stretch that stands twice (overlaps count) in the last 128."""
    tail = text[-TAIL:]
    best = 0
    for start in range(len(tail)):
        while tail.find(tail[start : start + best + 1], start + 1) >= 0 and start + best < len(
            tail
        ):
            best += 1
    return best


def compression(text: str) -> float:
    """Bytes after zlib for each byte before: text that loops comes to little."""
    data = text.encode("utf-8", "surrogatepass")
    return len(zlib.compress(data)) / len(data) if data else 1.0


def _raw() -> dict[str, Column]:
    found = {}
    for part in CAPTIONS:
        if pa.types.is_nested(part.type):
            continue
        real, text = pa.types.is_floating(part.type), pa.types.is_string(part.type)
        kind = "text" if text else "real" if real else "number"
        found[part.name] = Column(about=f"the run's own {part.name}", kind=kind, sql=part.name)
    return found


COLUMNS: dict[str, Column] = {
    **_raw(),
    "text": Column(about="the text itself", kind="text", sql="{text}"),
    "words": Column(
        about="words, parted by white space",
        kind="number",
        sql=f"len(regexp_extract_all({{text}}, '{_WORD}'))",
    ),
    "chars": Column(about="characters (code points)", kind="number", sql="length({text})"),
    "sim": Column(about="the text's score", kind="real", sql="{sim}"),
    "sim_gain": Column(
        about="clip_sim less orig_clip_sim", kind="real", sql="clip_sim - orig_clip_sim"
    ),
    "logprob_per_token": Column(
        about="caption_logprob for each token, the stop token included",
        kind="real",
        sql="caption_logprob / (n_tokens + 1)",
    ),
    "min_side": Column(about="shorter side in pixels", kind="number", sql="least(width, height)"),
    "max_side": Column(about="longer side in pixels", kind="number", sql="greatest(width, height)"),
    "pixels": Column(
        about="pixels of the picture", kind="number", sql="width::bigint * height::bigint"
    ),
    "aspect": Column(
        about="longer side by shorter side",
        kind="number",
        sql="greatest(width, height)::double / least(width, height)::double",
    ),
    "word_repetition": Column(
        about="share of words that stood there before", kind="number", measure=word_repetition
    ),
    "ngram_repetition": Column(
        about="share of groups of three words that stood there before",
        kind="number",
        measure=ngram_repetition,
    ),
    "longest_repeat": Column(
        about=f"longest stretch that stands twice in the last {TAIL} characters",
        kind="number",
        measure=longest_repeat,
    ),
    "compression": Column(
        about="zlib's size of the text by its own", kind="number", measure=compression
    ),
    "language": Column(
        about="ISO 639 code by fastText's lid.176 (extra: language)",
        kind="text",
        measure=language_of,
    ),
}
"""By name; what SQL calls them is their name too."""

_SCORES = ("clip_sim", "orig_clip_sim", "sim", "sim_gain")


def is_number(name: str) -> bool:
    """Whether it compares by size."""
    return COLUMNS[name].kind != "text"


def is_score(name: str) -> bool:
    """Whether it means something only together with the encoder that scored."""
    return name in _SCORES


def _words(expression: str) -> set[str]:
    letters = "".join(sign if sign.isalnum() or sign == "_" else " " for sign in expression)
    return set(letters.split())
