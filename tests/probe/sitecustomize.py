"""On PYTHONPATH it makes every Python process write down each model that it loads for its units.

`NIGHTCAP_LOADS` names the file; a line is the process, and what was loaded with what settings.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

WATCHED = "tasks.units.loaded"


class Probe(MetaPathFinder):
    """Finds the module that keeps models, and has it tell of its loads."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's own spec, its execution followed by ours."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == WATCHED else None
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                for name in ("load_encoder", "load_captioner"):
                    setattr(module, name, told(name, getattr(module, name)))

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def told(name: str, load: Any) -> Any:
    """`load`, which writes a line whenever it is called."""

    def loading(*words: Any, **settings: Any) -> Any:
        with open(os.environ["NIGHTCAP_LOADS"], "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(f"{os.getpid()} {name} {words} {settings}\n")
        return load(*words, **settings)

    return loading


if "NIGHTCAP_LOADS" in os.environ:
    sys.meta_path.insert(0, Probe())
