"""What a decision makes of a row: a plain function from row to row, without files.

A text that stands among the row's captions brings its own scores along; one written by hand has
none, because no model gave it. A rejected row is an error row with the code `rejected`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from storage.edits import Edit

Row = Mapping[str, Any]
REJECTED = "rejected"
_SCORES = {"caption_logprob": "logprob", "n_tokens": "n_tokens", "clip_sim": "clip_sim"}
_BY_HAND = {"logprob": None, "n_tokens": None, "clip_sim": None, "seed": None}
CHANGED = ("caption", *_SCORES, "captions", "status", "error_code", "error_detail")
"""The columns that a decision may change."""


def decided(row: Row, edit: Edit | None) -> dict[str, Any]:
    """`row` as `edit` wants it; the same where nothing was decided, or the picture failed."""
    if edit is None or failed(row):
        return dict(row)
    if edit.action == "reject":
        return _rejected(row)
    if edit.caption == row["caption"] and row["status"] == "ok":
        return dict(row)
    return _with_text(row, edit.caption)


def failed(row: Row) -> bool:
    """Whether a stage failed on the picture: nothing is to be decided then, and its code stays."""
    return row["error_code"] not in ("", REJECTED)


def base_of(row: Row, original: Row | None, history: Iterable[Edit]) -> Row:
    """What decisions are to be applied to: `original`, if `row` is what one of them made of it.

    Otherwise the row was captioned anew meanwhile, and is its own beginning.
    """
    if original is None:
        return row
    made = (decided(original, edit) for edit in history if edit.action != "undo")
    same = any(all(row[name] == one[name] for name in CHANGED) for one in made)
    return original if same else row


def _rejected(row: Row) -> dict[str, Any]:
    return {
        **row,
        **dict.fromkeys(("caption", *_SCORES)),
        "captions": [],
        "status": "error",
        "error_code": REJECTED,
        "error_detail": None,
    }


def _with_text(row: Row, text: str) -> dict[str, Any]:
    known = [one for one in row["captions"] if one["text"] == text]
    chosen = known[0] if known else {"text": text, **_BY_HAND}
    others = [one for one in _candidates(row) if one["text"] != text]
    scores = {name: chosen[part] for name, part in _SCORES.items()}
    return {
        **row,
        **scores,
        "caption": text,
        "captions": [chosen, *others],
        "status": "ok",
        "error_code": "",
        "error_detail": None,
    }


def _candidates(row: Row) -> list[dict[str, Any]]:
    """The row's captions; a run that kept no list has the one."""
    if row["captions"] or row["caption"] is None:
        return list(row["captions"])
    scores = {part: row[name] for name, part in _SCORES.items()}
    return [{"text": row["caption"], **scores, "seed": None}]
