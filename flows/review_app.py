"""The pages of a review over HTTP: what is asked for, checked, and answered.

Only this machine may ask, by its own name and with the token of this start; nothing that a page
loads comes from elsewhere, and no script but ours can run in it.
"""

import json
import secrets
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.review_pages import Pages, place_of, wanted_of
from storage.edits import RowName, checked
from storage.errors import ConfigurationError, ShardError, StorageError
from storage.review import ReviewTable
from storage.review_pictures import Pictures

MAX_BODY = 4_000_000
"""Bytes of one batch of decisions."""
MAX_NAME = 64
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
SHOWN = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
}
"""Formats that browsers show, by the name that a row gives them."""
ASSETS = {"review.css": "text/css", "review.js": "text/javascript"}


def review_app(table: ReviewTable, pictures: Pictures, token: str, reviewer: str) -> ASGIApp:
    """The application; every path begins with `token`."""
    site = _Site(table, pictures, Pages(table, reviewer))
    routes = [
        Route("/", site.grid),
        Route("/row", site.row),
        Route("/image/{number:int}", site.image),
        Route("/edits", site.edits, methods=["POST"]),
        Route("/static/{name}", _static),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        exception_handlers={ConfigurationError: _refused, StorageError: _failed},
    )
    return _Gate(app, token)


class _Gate:
    """Lets in who knows the token, and sends our headers with every answer."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(k.encode(), v.encode()) for k, v in HEADERS.items()]
            await send(message)

        if scope["type"] != "http":
            return
        token, slash, rest = scope["path"].removeprefix("/").partition("/")
        if slash and secrets.compare_digest(token.encode(), self._token.encode()):
            inner = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}
            await self._app(inner, receive, with_headers)
            return
        sentence = "Open the address that nightcap review printed, its last part too.\n"
        await PlainTextResponse(sentence, HTTPStatus.NOT_FOUND)(scope, receive, with_headers)


class _Site:
    """What each address gives."""

    def __init__(self, table: ReviewTable, pictures: Pictures, pages: Pages) -> None:
        self._table, self._pictures, self._pages = table, pictures, pages

    def grid(self, request: Request) -> Response:
        """A page of cards."""
        asked = request.query_params
        self._table.refresh()
        return _html(
            self._pages.grid(wanted_of(asked), place_of(asked, "after"), place_of(asked, "before"))
        )

    def row(self, request: Request) -> Response:
        """One row with all that is known of it."""
        asked = request.query_params
        self._table.refresh()
        page = self._pages.row(wanted_of(asked), asked.get("id", ""))
        return _html(page) if page else _plain("There is no such row.", HTTPStatus.NOT_FOUND)

    def image(self, request: Request) -> Response:
        """A picture's bytes as stored; a sentence where it cannot be had or shown."""
        row = self._table.row(request.path_params["number"])
        if row is None:
            return _plain("There is no such row.", HTTPStatus.NOT_FOUND)
        kind = SHOWN.get((row["format"] or "").upper())
        if row["format"] and kind is None:
            sentence = f"Browsers show no {row['format']} pictures."
            return _plain(sentence, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        try:
            data = self._pictures.read(row["shard"], row["key"], row["sha256"])
        except ShardError as error:
            return _plain(f"No picture: {error}.", HTTPStatus.GONE)
        headers = {"cache-control": "private, max-age=86400"}
        return Response(data, media_type=kind or "application/octet-stream", headers=headers)

    async def edits(self, request: Request) -> Response:
        """Keep decisions; the answer is sent when they are on disk."""
        given, by = _decisions(await _body(request))
        rows = await run_in_threadpool(self._table.decide, given, by)
        return JSONResponse({"rows": [self._pages.state(row) for row in rows]})


async def _body(request: Request) -> Any:
    if request.headers.get("content-type", "").split(";")[0] != "application/json":
        raise ConfigurationError("decisions are sent as application/json")
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY:
            raise ConfigurationError(f"a batch of decisions may have {MAX_BODY} bytes: send fewer")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"the decisions are no JSON: {error}") from error


def _decisions(body: Any) -> tuple[list[tuple[RowName, dict[str, str]]], str]:
    edits = body.get("edits") if isinstance(body, dict) else None
    by = body.get("by") if isinstance(body, dict) else None
    if not isinstance(edits, list) or not all(isinstance(edit, dict) for edit in edits):
        raise ConfigurationError("decisions are sent as an object with by and edits")
    if not (isinstance(by, str) and 0 < len(by.strip()) <= MAX_NAME and by.isprintable()):
        raise ConfigurationError(f"say who you are in 1 to {MAX_NAME} printable letters")
    names = [(edit.get("shard"), edit.get("key")) for edit in edits]
    if not all(isinstance(part, str) for name in names for part in name):
        raise ConfigurationError("each decision names its row by shard and key")
    return list(zip(names, map(checked, edits), strict=True)), by.strip()


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS:
        return _plain("There is no such file.", HTTPStatus.NOT_FOUND)
    data = files("flows").joinpath("review_files", name).read_bytes()
    return Response(data, media_type=ASSETS[name], headers={"cache-control": "no-cache"})


def _html(text: str) -> Response:
    return Response(text, media_type="text/html", headers={"cache-control": "no-store"})


def _plain(sentence: str, status: HTTPStatus) -> Response:
    return PlainTextResponse(sentence, status)


def _refused(_: Request, error: Exception) -> Response:
    return _plain(str(error), HTTPStatus.BAD_REQUEST)


def _failed(_: Request, error: Exception) -> Response:
    return _plain(str(error), HTTPStatus.SERVICE_UNAVAILABLE)
