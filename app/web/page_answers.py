"""What answers and pages are sent with, and problems as pages: who asks with a browser is not answered with JSON."""

import json
from http import HTTPStatus
from urllib.parse import quote

from fastapi import Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web import page_shell, problems

# Nothing is loaded from elsewhere, nothing inline runs, and nobody frames us.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
GUARDS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer our own forms would not say where they come from
    "Cache-Control": "no-store",
}
HOUSES = ("/files", "/operations")


def beyond_the_door(then: str) -> str | None:
    """Return the address of a page of ours that somebody wants to go on to; None for anything else."""
    return then if then.partition("?")[0] in HOUSES else None


class Pages:
    """Guards every page that goes out, and turns problems into pages for those who asked for one.

    Answers stay out of every cache, unless their route says otherwise.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._app(scope, receive, _Exchange(scope, receive, send).send)
        else:
            await self._app(scope, receive, send)


class _Exchange:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._problem: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        if self._problem is not None:
            await self._gather(self._problem, message)
            return
        if message["type"] == "http.response.start":
            kind = MutableHeaders(scope=message).get("content-type", "")
            if kind == problems.MEDIA_TYPE and _wants_a_page(self._scope):
                self._problem = message  # its body is to come
                return
            if kind.startswith("text/html"):
                MutableHeaders(scope=message).update(GUARDS)
            # Answers to a cookie look public to a browser and to a cache on the way, unless they say otherwise.
            MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
        await self._send(message)

    async def _gather(self, problem: Message, message: Message) -> None:
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        self._problem = None
        headers = Headers(raw=problem["headers"])
        page = _page(self._scope, problem["status"], json.loads(self._body), headers)
        await page(self._scope, self._receive, self.send)


def _wants_a_page(scope: Scope) -> bool:
    """Tell a browser from a program: Java's own client asks for text/html too, but sends its token in a header."""
    headers = Headers(scope=scope)
    return "authorization" not in headers and "text/html" in headers.get("accept", "")


def _page(scope: Scope, status: int, told: dict[str, str], headers: Headers) -> Response:
    if status == HTTPStatus.UNAUTHORIZED and scope["method"] == "GET":
        return _to_the_door(scope)
    page = page_shell.render("problem.html", status, told=told, request_id=scope.get("request_id", ""))
    kept = {name: headers[name] for name in ("retry-after", "allow") if name in headers}
    page.headers.update(kept)
    return page


def _to_the_door(scope: Scope) -> Response:
    """The door looks at the cookie itself, and says what is wrong with it."""
    query = scope["query_string"].decode("latin-1")
    wanted = f"{scope['path']}?{query}" if query else scope["path"]
    then = beyond_the_door(wanted)
    address = "/" if then is None else f"/?then={quote(then, safe='')}"
    return RedirectResponse(address, HTTPStatus.SEE_OTHER, {"Cache-Control": "no-store"})
