"""Gives the commands that write under a root their `--force`, and holds its lock for them."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

WRITERS = ("run", "shard", "embed", "caption", "gc", "retry-failed")
"""Commands of which one at a time may work on a root; the first argument called `root` is it."""
Force = Annotated[
    bool, typer.Option("--force", help="Take the root's lock even if somebody holds it.")
]


def lock_writers(app: typer.Typer) -> None:
    """Make every command of `app` that writes hold the lock of its root while it runs."""
    for command in app.registered_commands:
        callback = command.callback
        name = callback and (command.name or callback.__name__.replace("_", "-"))
        if callback and name in WRITERS:
            command.callback = locked(callback, name)


def locked(command: Callable[..., None], name: str) -> Callable[..., None]:
    """`command` with one more option, `--force`; it raises RootLocked where another one works."""

    @wraps(command)
    def holding(*, root: str, force: bool = False, **choices: Any) -> None:
        from storage.layout import open_root  # noqa: PLC0415 - help must answer at once
        from storage.lock import held  # noqa: PLC0415

        with held(open_root(root), name, force=force):
            command(root=root, **choices)

    signature = inspect.signature(command)
    force = inspect.Parameter(
        "force", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Force
    )
    parameters = [*signature.parameters.values(), force]
    holding.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return holding
