"""The part of a model hub that a download asks for, on loopback, serving a folder; for tests alone.

FOLDER/OWNER/REPOSITORY/PATH is served at every revision, all of which resolve to one commit.
"""

import hashlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "5" * 40


class Hub(BaseHTTPRequestHandler):
    """Answers HEAD and GET of /OWNER/REPOSITORY/resolve/REVISION/PATH."""

    folder: Path

    def do_HEAD(self) -> None:
        """Say how large a file is, and which commit it belongs to."""
        self._answer()

    def do_GET(self) -> None:
        """Send a file."""
        self.wfile.write(self._answer())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""

    def _answer(self) -> bytes:
        parts = self.path.partition("?")[0].strip("/").split("/")
        place = self.folder.joinpath(*parts[:2], *parts[4:])
        found = parts[2:3] == ["resolve"] and place.is_file()
        data = place.read_bytes() if found else b""
        self.send_response(200 if found else 404)
        if found:
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        else:
            repository = parts[2:4] if parts[0] == "api" else parts[:2]
            known = self.folder.joinpath(*repository).is_dir()
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return data


def main() -> None:
    """Serve the folder named on the command line until standard input closes."""
    Hub.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
