"""HTTP over real sockets: one thread for each connection, kept alive, and cut where a fault says so."""

import socket
import ssl
import struct
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from tests.graph import control, routes
from tests.graph.answers import Answer
from tests.graph.exchange import Exchange, Head
from tests.graph.faults import Cut, Script
from tests.graph.world import World

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close without a farewell


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    block_on_close = False

    def __init__(self, host: str, port: int, world: World, tls: ssl.SSLContext | None) -> None:
        self.world, self.tls = world, tls
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # the name of this machine is not wanted, nor the time it takes to find

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if self.tls:
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError:
                return
        super().process_request_thread(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Say farewell, but not on a connection that is to be reset."""
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == RESET:
            request.close()
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Be silent about clients that went away; anything else is a fault of ours."""
        if not isinstance(sys.exception(), OSError):
            traceback.print_exc()

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    rbufsize = 1 << 18

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()
        self.peer = self.server.world.journal.connect(*self.client_address[:2])

    def finish(self) -> None:
        self.server.world.journal.disconnect(self.peer)
        super().finish()

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65_537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        try:
            self._exchange()
        except Cut as cut:
            self._cut(reset=cut.reset)

    def handle_expect_100(self) -> bool:
        return True  # said when the body is wanted, not before

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the journal knows."""

    def _exchange(self) -> None:
        world = self.server.world
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not headers.get("content-length", "0").isdecimal():
            self.close_connection = True
            self.send_error(400)
            return
        ours = self.path.startswith(control.PREFIX)  # no fault strikes control, and no journal keeps it
        record = world.journal.begin(self.peer, self.command, self.path, headers, kept=not ours)
        base = f"{'https' if self.server.tls else 'http'}://{headers.get('host', 'localhost')}"
        head = Head(self.command, self.path, headers, base)
        exchange = Exchange(head, Script() if ours else world.script, record, world.clock)
        exchange.body.attach(self.rfile, self._say_continue)
        try:
            answer = routes.answer(world, exchange, self.server.port)
            record.status = answer.status
            self._send(exchange, answer)
        finally:
            world.journal.end(record)

    def _say_continue(self) -> None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _send(self, exchange: Exchange, answer: Answer) -> None:
        if not exchange.body.read_all:
            self.close_connection = True
            answer.headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {answer.status} {self.responses.get(answer.status, ('',))[0]}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        if answer.status not in {204, 304}:
            lines.append(f"Content-Length: {answer.length}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
        limit = exchange.cut_answer_after()
        body = answer.body if limit is None else answer.body[:limit]
        self.connection.sendall(head + body)
        if answer.file:
            self._send_file(answer, limit)
        if limit is not None and limit < answer.length:
            self._cut(reset=False)
        elif self.close_connection:
            self._linger()

    def _send_file(self, answer: Answer, limit: int | None) -> None:
        assert answer.file
        path, start, length = answer.file
        length = length if limit is None else min(length, limit)
        if length:
            with path.open("rb") as file:
                self.connection.sendfile(file, start, length)

    def _linger(self) -> None:
        """Wait for a client that still sends, so that it comes to read the answer."""
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(2)
        while self.connection.recv(1 << 16):
            pass

    def _cut(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
