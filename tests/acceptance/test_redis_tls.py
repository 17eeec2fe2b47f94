"""Redis over TLS, with a front that ends the TLS before our own server: the build of the wheel knows none."""

import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import redis
import trustme
from celery import Celery
from sqlalchemy import make_url

from local.system import BIN
from tests.acceptance.conftest import Haulage, wait_until
from tests.installation import CORP, Installation
from tests.web_server import UPLOADS, WebServer, web_server

REFUSED = "certificate verify failed"
WORKER = (BIN / "celery", "-A", "tasks.worker", "worker", "-l", "info", "-c", "1")
BEAT = (BIN / "celery", "-A", "tasks.worker", "beat", "-l", "warning", "--pidfile=")


class Front(socketserver.ThreadingTCPServer):
    """Takes TLS connections and passes what they bring on to the plain port."""

    def __init__(self, context: ssl.SSLContext, to: int) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.context, self.to = context, to
        self.port = self.server_address[1]
        self.versions: list[str | None] = []
        self.refusals = 0
        self.over = False

    @contextmanager
    def running(self) -> Iterator["Front"]:
        thread = threading.Thread(target=self.serve_forever, args=[0.05])
        thread.start()
        try:
            yield self
        finally:
            self.over = True
            self.shutdown()
            thread.join()
            self.server_close()  # waits for the connections' threads


class Connection(socketserver.BaseRequestHandler):
    server: Front

    def handle(self) -> None:
        try:
            client = self.server.context.wrap_socket(self.request, server_side=True)
        except OSError:  # the client broke the handshake off
            self.server.refusals += 1
            return
        self.server.versions.append(client.version())
        with client, socket.create_connection(("127.0.0.1", self.server.to)) as plain, suppress(OSError):
            while not self.server.over and all(
                _passed_on(one, other)
                for one, other in ((client, plain), (plain, client))
                if one in _readable(client, plain)
            ):
                pass


def _readable(client: ssl.SSLSocket, plain: socket.socket) -> list[socket.socket]:
    return [client] if client.pending() else select.select([client, plain], [], [], 0.2)[0]


def _passed_on(one: socket.socket, other: socket.socket) -> bool:
    data = one.recv(65536)
    other.sendall(data)
    return bool(data)


@dataclass
class Certified:
    """A CA, the file that clients verify with, and a way to have fronts for the host names of one's choice."""

    authority: trustme.CA
    ca_file: Path
    installation: Installation

    @contextmanager
    def front(self, name: str) -> Iterator[Front]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(context)
        plain = make_url(self.installation.environment["REDIS_URL"]).port
        with Front(context, plain).running() as front:
            yield front

    def url(self, front: Front, ca_file: Path | None = None) -> str:
        password = make_url(self.installation.environment["REDIS_URL"]).password
        query = {"ssl_cert_reqs": "required", "ssl_ca_certs": ca_file or self.ca_file}
        return f"rediss://:{quote(password, safe='')}@localhost:{front.port}/0?{urlencode(query)}"


@pytest.fixture
def certified(installation: Installation, tmp_path: Path) -> Certified:
    authority, ca_file = trustme.CA(), tmp_path / "ca.crt"
    authority.cert_pem.write_to_path(str(ca_file))
    return Certified(authority, ca_file, installation)


def upload(web: WebServer, name: str) -> None:
    with web.client() as client:
        answer = client.post(f"{UPLOADS}?name={name}", content=f"content of {name}")
    assert answer.status_code == 202, answer.text


def readiness(web: WebServer) -> str:
    with web.client() as client:
        return client.get("/readyz").json()["redis"]


def test_everything_goes_through_redis_over_tls(haulage: Haulage, certified: Certified) -> None:
    with certified.front("localhost") as front:
        url = certified.url(front)
        haulage.start_worker(REDIS_URL=url)
        haulage.system.start("beat", *BEAT, REDIS_URL=url)
        with web_server(certified.installation, REDIS_URL=url) as web:
            assert readiness(web) == "ok"
            upload(web, "by-http.txt")
            haulage.wait_until_stored(1)
            wait_until(lambda: swept(haulage), "beat's sweep has run")
        (haulage.installation.inbox / "by-celery.txt").write_bytes(b"from the inbox")
        stranger = Celery("stranger", broker=url, backend=url)

        sent = stranger.send_task("tasks.uploads.upload_file", [CORP, "by-celery.txt"], queue="uploads")
        result = sent.get(timeout=30)
        stranger.close()

        haulage.system.stop()

    assert (result["state"], result["id"]) == ("stored", f"{CORP}/by-celery.txt")
    assert haulage.problems() == []
    assert {"TLSv1.3"} == set(front.versions)
    assert len(front.versions) >= 5, "worker, beat, web and the stranger have come this way"
    assert front.refusals == 0


def swept(haulage: Haulage) -> bool:
    return bool(haulage.installation.query("SELECT 1 FROM corporate.upkeep_runs WHERE task LIKE '%%sweep'"))


def test_a_server_that_cannot_prove_who_it_is_gets_nothing_and_nothing_is_lost(
    haulage: Haulage, certified: Certified, tmp_path: Path
) -> None:
    other_ca_file = tmp_path / "other.crt"
    trustme.CA().cert_pem.write_to_path(str(other_ca_file))
    said = {}

    with certified.front("localhost") as front, certified.front("elsewhere.example") as misnamed:
        for wrong, url in {
            "authority": certified.url(front, other_ca_file),
            "name": certified.url(misnamed),
        }.items():
            haulage.system.start(wrong, *WORKER, REDIS_URL=url)
            with web_server(certified.installation, REDIS_URL=url) as web:
                assert readiness(web) == "unreachable"
                upload(web, f"{wrong}.txt")
                wait_until(lambda log=web.log: REFUSED in log.read_text(), "the web process says why")
                said[f"web, {wrong}"] = web.log.read_text()
            wait_until(lambda name=wrong: REFUSED in haulage.log(name), "the worker says why")
            said[wrong] = haulage.log(wrong)
        spoke = [*front.versions, *misnamed.versions]
        states = haulage.states()
        credulous = certified.url(misnamed).replace("required", "none")
        with redis.Redis.from_url(credulous, ssl_check_hostname=False) as control:
            assert control.ping(), "whoever does not verify would have got through"
        haulage.start_worker(REDIS_URL=certified.url(front))
        haulage.system.start("beat", *BEAT, REDIS_URL=certified.url(front))
        haulage.wait_until_stored(2)

    assert spoke == [], "no password went over a connection that was not verified"
    assert states == {"queued": 2}, "what was accepted is safe"
    assert haulage.problems() == []
    assert "not valid for 'localhost'" in said["name"]
    password = make_url(certified.installation.environment["REDIS_URL"]).password
    assert not [where for where, text in said.items() if password in text]
