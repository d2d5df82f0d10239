"""Serves the review of a run to browsers of this machine, until it is told to stop."""

import errno
import getpass
import json
import secrets
import socket
import sys
from dataclasses import dataclass

import uvicorn

from flows.review_app import review_app
from storage.errors import ConfigurationError
from storage.review import ReviewTable, open_review
from storage.review_pictures import Pictures

HOST = "127.0.0.1"
PORT = 8765


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewOptions:
    """What to review, and where the page is served."""

    run: str = ""
    """May be left out where there is only one."""
    port: int = PORT
    """0 takes any that is free."""
    reviewer: str = ""
    """Who decides, unless the page is told another name; by default who is logged in."""
    ids: str = ""
    """A Parquet file of shard and key: only these rows."""
    as_json: bool = False


def serve_review(root: str, options: ReviewOptions) -> None:
    """Serve until interrupted; ConfigurationError for a port that is taken, before any reading."""
    listener = _listen(options.port)
    with listener, open_review(root, options.run, options.ids) as table:
        token = secrets.token_urlsafe(24)
        url = f"http://{HOST}:{listener.getsockname()[1]}/{token}/"
        app = review_app(table, Pictures(table.root), token, options.reviewer or _login())
        _say(url, table, as_json=options.as_json)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        )
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # the usual way to end it
            return


def _listen(port: int) -> socket.socket:
    # With its protocol named, asyncio sends at once; else each answer waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "taken" if error.errno == errno.EADDRINUSE else "not for ordinary users"
        raise ConfigurationError(
            f"port {port} is {why}: give another with --port, or --port 0 for any free one"
        ) from error
    listener.listen(128)
    return listener


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "reviewer"


def _say(url: str, table: ReviewTable, *, as_json: bool) -> None:
    totals = table.totals()
    if as_json:
        facts = {"command": "review", "ok": True, "run": table.run, "url": url, **totals}
        print(json.dumps(facts), flush=True)  # noqa: T201
        return
    print(  # noqa: T201
        f"run {table.run}: {totals['rows']} rows\nopen {url}\n"
        "Ctrl+C ends it; what the page calls saved is on disk",
        file=sys.stderr,
        flush=True,
    )
