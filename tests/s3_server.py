"""An S3 server on loopback whose faults are asked for by name, for tests alone.

A key that contains one of these words gets its fault once, on its first write:
`lost-reply` is stored and then answered 500; `conflict-409` is refused with 409 and not stored.
A key that contains `terse` never says which condition failed, as some servers do not.
A key that contains `deaf` is written whatever is there, by a server that knows no `If-None-Match`.
A key that contains `far-away` takes a tenth of a second to be read.
Started with a number, the server is a storm drawn by it: of all requests 5 % are answered 503 and
2 % cut off; of all writes 1 % are stored and then answered 500, and 1 % refused with 409.
"""

import random
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>on purpose</Message></Error>"


class FaultyStore:
    """A WSGI application around moto that spoils the first write of the keys that ask for it."""

    def __init__(self, storm: int | None = None) -> None:
        self.storm = random.Random(storm) if storm is not None else None
        self.store = DomainDispatcherApplication(create_backend_app)
        self.spoilt: set[str] = set()
        self.lock = threading.Lock()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request."""
        path = environ["PATH_INFO"]
        if "far-away" in path and environ["REQUEST_METHOD"] == "GET":
            time.sleep(0.1)
        if "deaf" in path:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        fault = self._fault(path) if environ["REQUEST_METHOD"] == "PUT" else ""
        fault = fault or self._weather(environ["REQUEST_METHOD"])
        if fault == "busy-503":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _refuse(start_response, "503 Slow Down", "SlowDown")
        if fault == "cut-off":
            return _cut_off(environ)
        if fault == "conflict-409":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _refuse(start_response, "409 Conflict", "ConditionalRequestConflict")
        if fault == "lost-reply":
            b"".join(self.store(environ, lambda *_: None))
            return _refuse(start_response, "500 Internal Server Error", "InternalError")
        if "terse" in path:
            return self._terse(environ, start_response)
        return self.store(environ, start_response)

    def _fault(self, path: str) -> str:
        with self.lock:
            for fault in ("lost-reply", "conflict-409"):
                if fault in path and path not in self.spoilt:
                    self.spoilt.add(path)
                    return fault
        return ""

    def _weather(self, method: str) -> str:
        if self.storm is None:
            return ""
        with self.lock:
            drawn = self.storm.random()
        if drawn < 0.07:
            return "busy-503" if drawn < 0.05 else "cut-off"
        if method == "PUT" and drawn < 0.09:
            return "lost-reply" if drawn < 0.08 else "conflict-409"
        return ""

    def _terse(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        replies: list[tuple[str, list[tuple[str, str]]]] = []
        body = b"".join(
            self.store(environ, lambda status, headers, *_: replies.append((status, headers)))
        )
        body = re.sub(rb"<Condition>.*?</Condition>", b"", body)
        status, headers = replies[0]
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [body]


def _cut_off(environ: dict[str, Any]) -> list[bytes]:
    """End the connection in the middle of the request."""
    connection = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError


def _refuse(start_response: Callable[..., Any], status: str, code: str) -> list[bytes]:
    body = ERROR.format(code=code).encode()
    start_response(
        status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    )
    return [body]


def main() -> None:
    """Serve on a free port, which is the first line printed, until standard input closes."""
    storm = int(sys.argv[1]) if len(sys.argv) > 1 else None
    server = make_server(
        "127.0.0.1", 0, FaultyStore(storm), threaded=True, request_handler=MotoRequestHandler
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
