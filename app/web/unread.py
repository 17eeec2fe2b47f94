"""Answers a request before its body was read, in a way that its sender can hear."""

from anyio import move_on_after
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# How long, and how much, goes on being read and thrown away after such an answer.
LINGER_SECONDS = 2
LINGER_BYTES = 4 * 2**20


class Unread:
    """Closes the connection after an early answer, and lingers before it does.

    The server would otherwise read the whole body only to throw it away. Closed at once, with bytes unread, the
    connection would be reset, and a reset may take the answer away from the sender's side before it is read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _has_body(scope):
            await _Exchange(receive, send).run(self._app, scope)
        else:
            await self._app(scope, receive, send)


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


class _Exchange:
    def __init__(self, receive: Receive, send: Send) -> None:
        self._server_receive, self._server_send = receive, send
        self._is_read = self._is_early = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        await app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        message = await self._server_receive()
        self._is_read = not message.get("more_body", False)
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._is_read:
            self._is_early = True
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        if self._is_early and message["type"] == "http.response.body" and not message.get("more_body"):
            await self._server_send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._server_send(message)

    async def _linger(self) -> None:
        left = LINGER_BYTES
        with move_on_after(LINGER_SECONDS):
            while left > 0 and not self._is_read:
                left -= len((await self._receive()).get("body", b""))
