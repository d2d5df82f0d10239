"""I1: malformed pictures of every kind among nine times as many good ones, each with its code."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from proofs.small_run import finish
from proofs.stores import new_root
from storage import open_captions

TESTS = str(Path(__file__).parents[1] / "tests")


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """`count` malformed pictures, of all kinds in turn, among the good ones."""
    del seed
    sys.path.insert(0, TESTS)
    from hostile import hostile_files
    from hostile_more import more_hostile_files

    kinds = hostile_files(scratch / "kinds") + more_hostile_files(scratch / "more")
    bad = [one for one in kinds if one.code]
    pictures, clean = scratch / "pictures", scratch / "clean"
    for folder in (pictures / "good", pictures / "bad", clean / "good"):
        folder.mkdir(parents=True)
    for number in range(9 * count):
        picture = Image.new("RGB", (20 + number % 97, 30 + number // 97), (number % 251, 9, 160))
        for place in (pictures, clean):
            picture.save(place / "good" / f"{number:05}.png")
    codes = {}
    for number in range(count):
        one = bad[number % len(bad)]
        name = f"bad/{number:04}-{one.path.name}"
        (pictures / name).write_bytes(one.path.read_bytes())
        codes[name] = one.code
    found, whole = (_rows(place, new_root("local", scratch)) for place in (pictures, clean))
    right = sum(found[name]["error_code"] == code for name, code in codes.items())
    equal = sum(found[name]["caption"] == row["caption"] for name, row in whole.items())
    told = {"kinds": len(bad), "codes": dict(sorted(Counter(codes.values()).items()))}
    ok = right == count and equal == 9 * count and len(found) == 10 * count
    return {"proof": "I1", "ok": ok, "malformed": count, "right_code": right, "good": 9 * count} | {
        "equal_to_a_clean_run": equal,
        **told,
    }


def _rows(source: Path, root: str) -> dict[str, dict[str, Any]]:
    finish(source, root, size=1000)
    return {row["path"]: row for row in open_captions(root).read_all().to_pylist()}
