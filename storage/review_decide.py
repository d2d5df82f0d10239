"""A decision as it was sent, made a record of the log: who, when, and what it takes back."""

from collections.abc import Mapping, Sequence
from typing import Any

from storage.edit_rows import failed
from storage.edits import Edit, EditLog, standing
from storage.errors import ConfigurationError


def edit_from(
    log: EditLog, row: Mapping[str, Any], what: Mapping[str, str], by: str, pending: Sequence[Edit]
) -> Edit | None:
    """The record of `what` (as `storage.edits.checked`) about `row`; None if nothing is to be done.

    `pending` are records of the same batch that the log does not hold yet. ConfigurationError for
    a picture that failed, and an undo of a decision that another has followed meanwhile.
    """
    if failed(row) and what["action"] != "undo":
        raise ConfigurationError(
            f"{row['path'] or row['key']!r} failed ({row['error_code']}): there is no caption to "
            "judge, mend the picture and run again"
        )
    undoes = ""
    if what["action"] == "undo":
        name = row["shard"], row["key"]
        history = [*log.history(name), *(edit for edit in pending if edit.name == name)]
        stands = standing(history)
        if stands is None or what.get("undoes") in {edit.undoes for edit in history if edit.undoes}:
            return None  # it was taken back before
        undoes = what.get("undoes") or stands.id
        if undoes != stands.id:
            raise ConfigurationError(
                f"{stands.by} decided about {row['path'] or row['key']!r} meanwhile, so nothing "
                "was taken back: look at the row again"
            )
    return Edit(
        id=what["id"],
        shard=row["shard"],
        key=row["key"],
        action=what["action"],
        caption=what["caption"] if what["action"] in ("accept", "edit") else "",
        undoes=undoes,
        by=by,
        at=log.now(),
    )
