"""Decodings by the names that users give them, changed setting by setting."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from captioner.decoding import DECODINGS, Decoding, decoding_from_json
from captioner.errors import ModelError

NAMED: dict[str, dict[str, Any]] = {
    "greedy": {"strategy": "greedy"},
    "beam": {"strategy": "beam"},
    "clipcap": {"strategy": "beam", "mode": "clipcap"},
    "sample": {"strategy": "sample"},
    "top-k": {"strategy": "sample", "top_k": 50},
    "top-p": {"strategy": "sample", "top_p": 0.9},
    "laion-coco": dict(strategy="sample", n=40, top_k=9607, top_p=0.2427, min_tokens=5),  # noqa: C408
}
"""What a user may call a strategy, and the settings that come with the name.

`laion-coco` draws as that dataset's workers did (andreaskoepf/laion_idle_cap, docker/c_h2.py).
"""


def changed_decoding(default: Decoding, name: str, settings: Mapping[str, Any]) -> Decoding:
    """`default` with `settings`, or the strategy called `name`, which ends captions as it does.

    Raises ModelError for a name or setting that is not known or does not fit.
    """
    if name and name not in NAMED:
        raise ModelError(f"The decoding {name!r} is not known; use one of: {', '.join(NAMED)}.")
    before = default.to_json()
    if name:
        ends = ("max_tokens", "stop_ids", "stop_strings")
        before = {**{key: before[key] for key in ends if key in before}, **NAMED[name]}
    kind = DECODINGS[before["strategy"]]
    known = {field.name for field in fields(kind)}
    if unknown := sorted(set(settings) - known):
        raise ModelError(
            f"The decoding {name or kind.strategy!r} has no setting {unknown[0]!r}; "
            f"it has {', '.join(sorted(known))}."
        )
    return decoding_from_json({**before, **settings})
