"""T1: the table of tars that other readers lose members of, then cuts and flipped headers.

Of each, the rows and the losses reported must be the members written, or an error tells of it.
"""

import io
import random
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

from storage.errors import TarError
from storage.tar_reader import TarReader

Members = list[tuple[str, bytes]]
WORD = b"a picture"


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """The whole table, and then damage up to `count` cases, drawn by `seed`."""
    del scratch
    draw = random.Random(seed)
    members = [
        (f"{number:05}.{kind}", draw.randbytes(draw.randrange(3000)))
        for number in range(30)
        for kind in ("jpg", "txt", "cls")
    ]
    whole = _packed(members)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        headers = [info.offset for info in tar]
    cases = dict(_table())
    for number in range(max(0, count - len(cases))):
        data = bytearray(whole)
        if number % 2:
            del data[draw.randrange(len(data)) :]
        else:
            data[draw.choice(headers) + draw.randrange(512)] ^= 1 << draw.randrange(8)
        cases[f"{('flip', 'cut')[number % 2]} {number}"] = (bytes(data), len(members))
    outcomes: Counter[str] = Counter()
    silent = []
    for name, (content, written) in cases.items():
        outcome = _outcome(content, written)
        outcomes[outcome] += 1
        silent += [name] if outcome == "silent" else []
    return {"proof": "T1", "ok": not silent, "cases": len(cases), **outcomes, "silent": silent}


def _outcome(data: bytes, written: int) -> str:
    reader = TarReader(io.BytesIO(data), "x.tar")
    try:
        pictures = sum(one.size is not None for one in reader)
    except TarError:
        return "error"
    told = pictures + reader.companions + reader.skipped.total()
    return "all_told" if told == written else "silent"


def _packed(members: Members) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _table() -> dict[str, tuple[bytes, int]]:
    """The bytes of each, and how many members were written into it."""
    five: Members = [(f"{number}.jpg", WORD * 90) for number in range(5)]
    whole = _packed(five)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        third = tar.getmembers()[2].offset
    damaged = bytearray(whole)
    damaged[third + 3] ^= 4
    names = {
        "a key again later": ["a.jpg", "b.jpg", "a.jpg"],
        "a member twice": ["a.jpg", "a.jpg"],
        "a dotted name": ["photo.v2.jpg", "photo.v2.txt"],
        "names without a sample": ["plain", ".hidden.jpg", "__x__/a.jpg"],
        "names that differ in case": ["A.JPG", "a.jpg"],
        "names that leave the folder": ["../../etc/p.jpg", "/abs.jpg", "é.jpg", "e\u0301.jpg"],
        "a pickle among the members": ["a.jpg", "a.pkl", "a.pth"],
        "a name too long": ["x" * 300 + ".jpg"],
    }
    table = {
        "cut between members": (whole[:third], 5),
        "cut inside a member": (whole[: third + 700], 5),
        "a damaged header": (bytes(damaged), 5),
        "two tars in one": (whole + whole, 10),
        "no bytes": (b"", 5),
    }
    for what, given in names.items():
        table[what] = (_packed([(name, WORD) for name in given]), len(given))
    return table
