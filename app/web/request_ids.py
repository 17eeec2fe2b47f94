"""Gives every request an id, which stands in its answer and in every line of a log about it."""

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs

HEADER = "X-Request-ID"
_USABLE = re.compile(
    r"[A-Za-z0-9._:/+=-]{1,128}"
)  # what a proxy may send; anything else could forge lines of a log


class RequestIds:
    """Takes the id that came with a request, or makes one; routes find it as `request.scope["request_id"]`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _USABLE.fullmatch(given) else secrets.token_hex(8)

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        scope["request_id"] = request_id
        with logs.about(request=request_id):
            await self._app(scope, receive, marked)
