"""X1: traps in every input and secrets in the environment; nothing is run, and nothing is told.

A whole run on S3 by the command line: its root, its output and Prefect's database are searched.
"""

import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

from proofs.commands import start
from proofs.small_run import draw
from proofs.stores import new_root, s3_server, whole_contents

SECRET = "hunter2canary"  # noqa: S105 - looked for, and nowhere valid


class Trap:
    """Leaves a folder behind as soon as a pickle of it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        """What a careless reader would call."""
        return os.mkdir, (str(self.canary),)


def prove(count: int, seed: int, scratch: Path) -> dict[str, Any]:
    """All traps at once, then every address with a secret."""
    del count, seed
    canary, home = scratch / "canary", scratch / "prefect"
    pictures = draw(scratch / "pictures", 5)
    trap = pickle.dumps(Trap(canary))
    for name in ("trap.png", "trap.jpg", "trap.pkl", "$(touch canary).png", "`id`.jpg"):
        (pictures / name).write_bytes(trap)
    told, codes = [], []
    with s3_server():
        os.environ["AWS_SECRET_ACCESS_KEY"] = SECRET
        tars = scratch / "tars"
        tars.mkdir()
        (tars / "0.tar").write_bytes(_tar(trap))
        for source in (pictures, tars / "*.tar"):
            root = new_root("s3", scratch)
            code, text = _run(home, str(source), root)
            codes.append(code)
            told += [text.encode(), *whole_contents(root).values()]
        for address in (f"s3://me:{SECRET}@bucket/root", f"s3://bucket/r?X-Amz-Signature={SECRET}"):
            for words in ((str(pictures), address), (address, str(scratch / "root"))):
                code, text = _run(home, *words)
                codes.append(code)
                told.append(text.encode())
        code, text = _run(home, f"pipe:touch {canary}", str(scratch / "root"))
        codes.append(code)
    told += [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    leaks = sum(SECRET.encode() in data for data in told)
    ok = not canary.exists() and not leaks and codes == [0, 0, 2, 2, 2, 2, 2]
    return {"proof": "X1", "ok": ok, "executions": int(canary.exists()), "leaks": leaks} | {
        "searched_files_and_outputs": len(told),
        "exit_codes": codes,
    }


def _run(home: Path, source: str, root: str) -> tuple[int, str]:
    process = start(home, "run", source, root, "--model", "size", "--lanes", "0", "--threads", "1")
    text, _ = process.communicate(timeout=600)
    return process.returncode, text


def _tar(trap: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("a.jpg", "a.pkl", "a.pth", "a.json", "../../b.jpg", "/c.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(trap)
            tar.addfile(info, io.BytesIO(trap))
    return buffer.getvalue()
