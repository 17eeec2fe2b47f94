"""The body of a request on its way in: by Content-Length or in chunks, in pieces, and never more than a fault allows."""

from collections.abc import Callable, Iterator
from typing import Protocol

from tests.graph.problems import GraphError, bad_request

STEP = 1 << 20
MOST_DRAINED = 64 << 20


class Reader(Protocol):
    """The side of a socket that is read."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...

    def readline(self, limit: int, /) -> bytes: ...


class Broken(ConnectionError):
    """The client went away in the middle of its request."""


class Body:
    """`allowed` is asked before each piece how many bytes it may have; there a fault can strike."""

    def __init__(self, headers: dict[str, str], allowed: Callable[[], int]) -> None:
        self._headers, self._allowed = headers, allowed
        self.received = 0
        self._left = self.length if not self.chunked else 0
        self.read_all = not self.there

    def attach(self, reader: Reader, say_continue: Callable[[], None]) -> None:
        self._reader, self._say_continue = reader, say_continue

    @property
    def chunked(self) -> bool:
        return "chunked" in self._headers.get("transfer-encoding", "").lower()

    @property
    def length(self) -> int:
        """Return the announced length, nought if there is none."""
        return int(self._headers.get("content-length", "0"))

    @property
    def there(self) -> bool:
        return self.chunked or self.length > 0

    def require_length(self) -> int:
        """Raise 411 ("Microsoft Graph error responses") without a Content-Length header."""
        if "content-length" not in self._headers:
            raise GraphError(411, "invalidRequest", "A Content-Length header is required on the request.")
        return self.length

    def pieces(self) -> Iterator[memoryview]:
        self._say_continue()
        if not self.chunked:
            yield from self._sized()
        else:
            for length in self._chunks():
                self._left = length
                yield from self._sized()
        self.read_all = True

    def drain(self) -> None:
        """Read what nobody wanted, so that the client comes to read its answer; a very long body is left."""
        if (
            not self.read_all
            and not self.chunked
            and "expect" not in self._headers
            and self._left <= MOST_DRAINED
        ):
            self._allowed = lambda: STEP
            for _ in self._sized():
                pass
            self.read_all = True

    def _sized(self) -> Iterator[memoryview]:
        """Read what is left of a body or of a chunk."""
        buffer = memoryview(bytearray(min(STEP, self._left)))
        while self._left:
            count = self._reader.readinto(buffer[: min(self._left, self._allowed())])
            if not count:
                raise Broken
            self._left -= count
            self.received += count
            yield buffer[:count]

    def _chunks(self) -> Iterator[int]:
        while True:
            line = self._reader.readline(1000)
            if not line:
                raise Broken
            try:
                length = int(line.split(b";")[0], 16)
            except ValueError as error:
                raise bad_request("A chunk is malformed.") from error
            yield length
            if not length:
                while self._reader.readline(1000).strip():
                    pass
                return
            self._reader.readline(1000)
