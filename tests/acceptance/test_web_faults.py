"""The web server when something is missing, slow, hostile or cut off."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local import servers as local_servers
from local.servers import Servers
from tests.installation import CORP, Installation, fresh_installation, make_database
from tests.web_server import UPLOADS, WebServer, start, web_server

MIB = 2**20


@pytest.fixture(scope="module")
def web(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    installation = fresh_installation(servers, make_database(servers), tmp_path_factory.mktemp("web"))
    with (
        web_server(installation) as running,
    ):
        yield running


def eventually(holds: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 10
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def head(token: str, *headers: str, query: str = "?name=x") -> bytes:
    lines = [f"POST {UPLOADS}{query} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def send_until_refused(connection: socket.socket, size: int) -> int:
    """Send a body without ever looking for the answer; return how many bytes went out."""
    sent = 0
    try:
        while sent < size:
            sent += connection.send(b"x" * MIB)
    except OSError:
        pass
    return sent


@pytest.mark.parametrize("token", ["", "nonsense", "haulage_" + "x" * 43 + "00000000"])
def test_a_body_is_not_read_before_its_sender_is_known(web: WebServer, token: str) -> None:
    with web.connection() as connection:
        connection.sendall(head(token, f"Content-Length: {200 * MIB}"))
        sent = send_until_refused(connection, 200 * MIB)
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"www-authenticate: bearer" in answer.lower()
    assert b'"unauthorised"' in answer
    assert sent < 16 * MIB


def test_a_body_that_is_too_large_is_not_read(web: WebServer) -> None:
    before = web.staged_files()  # of other tests
    with web.connection() as connection:
        connection.sendall(head(web.token, f"Content-Length: {2**60}"))

        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert sorted(web.staged_files()) == sorted(before)


def test_a_sender_who_asks_first_need_not_send(web: WebServer) -> None:
    with web.connection() as connection:
        connection.sendall(head("", "Content-Length: 1000000", "Expect: 100-continue"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")

    with web.connection() as connection:
        connection.sendall(head(web.token, "Content-Length: 1", "Expect: 100-continue"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"x")
        assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")


FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'


@pytest.mark.parametrize(
    ("headers", "body", "query"),
    [
        ([f"Content-Length: {10 * MIB}"], b"x" * 3 * MIB, "?name=x"),
        (["Transfer-Encoding: chunked"], b"300000\r\n" + b"x" * 3 * MIB, "?name=x"),
        (
            [f"Content-Length: {10 * MIB}", "Content-Type: multipart/form-data; boundary=b"],
            FORM + b"x" * 3 * MIB,
            "",
        ),
    ],
)
def test_a_connection_cut_halfway_leaves_nothing(
    web: WebServer, headers: list[str], body: bytes, query: str
) -> None:
    before = web.upload_count(), len(web.staged_files())

    with web.connection() as connection:
        connection.sendall(head(web.token, *headers, query=query) + body)
        assert eventually(lambda: len(web.staged_files()) > before[1])

    assert eventually(lambda: len(web.staged_files()) == before[1])
    assert web.upload_count() == before[0]


def test_a_full_staging_takes_nothing(installation: Installation) -> None:
    with web_server(installation, STAGING_RESERVE_BYTES=str(2**60)) as web, web.client() as client:
        known = client.post(UPLOADS, params={"name": "x"}, content=b"x")
        chunked = client.post(UPLOADS, params={"name": "x"}, content=iter([b"x"]))

        assert (known.status_code, chunked.status_code) == (507, 507)
        assert known.json()["code"] == "staging_full"
        assert int(known.headers["retry-after"]) > 0
        assert web.staged_files() == []


def test_a_frozen_redis_delays_nobody(web: WebServer) -> None:
    redis_pid = web.installation.servers.redis_pid
    with web.client() as client:
        os.kill(redis_pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            for number in range(20):
                assert client.post(UPLOADS, params={"name": f"r{number}"}, content=b"x").status_code == 202
            assert time.monotonic() - began < 10
            began = time.monotonic()
            ready = client.get("/readyz")
            took = time.monotonic() - began
        finally:
            os.kill(redis_pid, signal.SIGCONT)

    assert (ready.status_code, ready.json()["redis"]) == (200, "unreachable")
    assert took < 5


def test_new_uploads_are_woken(web: WebServer) -> None:
    with web.client() as client:
        told = client.post(UPLOADS, params={"name": "wake me"}, content=b"x").json()

    woken = "SELECT woken_at FROM corporate.uploads WHERE id = %s"
    assert eventually(lambda: web.installation.query(woken, told["id"])[0][0])


def test_a_web_server_ends_soon_though_redis_is_frozen(installation: Installation) -> None:
    redis_pid = installation.servers.redis_pid
    with web_server(installation) as web, web.client() as client:
        os.kill(redis_pid, signal.SIGSTOP)
        try:
            assert client.post(UPLOADS, params={"name": "x"}, content=b"x").status_code == 202
            web.process.send_signal(signal.SIGTERM)
            web.process.wait(8)
        finally:
            os.kill(redis_pid, signal.SIGCONT)

    assert "Traceback" not in web.log.read_text()


def test_a_database_that_is_away_is_told_and_comes_back(tmp_path: Path) -> None:
    with (
        local_servers.throwaway(plaintext=True) as own,
        web_server(fresh_installation(own, make_database(own), tmp_path)) as web,
        web.client() as client,
    ):
        assert client.get("/readyz").json()["database"] == "ok"
        os.kill(own.postgres_pid, signal.SIGINT)  # PostgreSQL's fast shutdown
        assert eventually(lambda: client.get("/readyz").status_code == 503)
        assert client.get("/readyz").json()["code"] == "database_unavailable"
        refused = client.post(UPLOADS, params={"name": "x"}, content=b"x")
        local_servers.restart_postgres(own)
        accepted = client.post(UPLOADS, params={"name": "x"}, content=b"x")

        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        assert refused.headers["retry-after"] == "5"
        assert client.get("/healthz").status_code == 200
        assert accepted.status_code == 202
        assert len(web.staged_files()) == 1


def stop_at_start(installation: Installation, **environment: str) -> tuple[int, str]:
    log = installation.root / "unfit.log"
    process = start(installation, log, **environment)
    try:
        return process.wait(20), log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        (
            {"STAGING_DIR": "/nowhere"},
            "STAGING_DIR (/nowhere) is not a staging: is it mounted on this machine?",
        ),
        ({"MAX_UPLOAD_BYTES": "none"}, "MAX_UPLOAD_BYTES: Input should be a valid integer"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL begins with mysql://"),
        (
            {"DATABASE_URL": "postgresql://u:secret@127.0.0.1:9/x?sslmode=disable"},
            "PostgreSQL is out of reach",
        ),
    ],
)
def test_a_process_that_must_not_run_says_why_and_ends(
    installation: Installation, environment: dict[str, str], sentence: str
) -> None:
    code, log = stop_at_start(installation, **environment)

    assert code != 0
    assert sentence in log
    assert "Traceback" not in log
    assert "secret" not in log


def test_staging_that_is_gone_is_told_without_its_place(installation: Installation) -> None:
    with web_server(installation) as web, web.client() as client:
        installation.staging_dir.rename(installation.root / "elsewhere")
        ready = client.get("/readyz")
        refused = client.post(UPLOADS, params={"name": "x"}, content=b"x")

        assert (ready.status_code, ready.json()["code"]) == (503, "wrong_staging")
        documented = client.get("/openapi.json").json()["paths"]["/readyz"]["get"]["responses"]["503"]
        (schema,) = [kind["schema"] for kind in documented["content"].values()]
        assert list(documented["content"]) == [ready.headers["content-type"]]
        assert set(ready.json()) == set(schema["properties"])
        assert (refused.status_code, refused.json()["code"]) == (503, "staging_unavailable")
        assert str(installation.root) not in ready.text + refused.text


def test_no_log_line_holds_a_token(web: WebServer) -> None:
    with web.client() as client:
        client.get(UPLOADS)
        client.post(UPLOADS, params={"name": "../x"}, content=b"x")

    assert "POST" in web.log.read_text()
    assert web.token not in web.log.read_text()


def test_what_the_framework_refuses_has_the_same_shape(web: WebServer) -> None:
    with web.client() as client:
        answers = [
            (client.get("/nowhere"), (404, "not_found")),
            (client.delete(UPLOADS), (405, "method_not_allowed")),
            (client.get(f"/api/v1/corporations/{CORP}/children?limit=0"), (422, "invalid_parameter")),
            (client.get(f"/api/v1/corporations/{CORP}/children?after={2**63}"), (422, "invalid_parameter")),
        ]

    for answer, expected in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, answer.json()["code"]) == expected
    assert answers[1][0].headers["allow"]
