"""Links that are slow, addresses where nobody answers, and bytes that are not to be had back."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from app.drives.onedrive import OneDrive
from app.errors import Disconnected, DriveFault, DriveUnavailable, HaulageError
from app.graph import http
from app.graph.http import REST_SECONDS, Rests, Session, Silence
from tests.integration.onedrive_case import FRAGMENT, Case, bytes_of

pytest_plugins = ["tests.integration.onedrive_fixtures"]

SMALL = bytes_of(5000)
LARGE = bytes_of(2 * FRAGMENT + 5000)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

Listen = Callable[[Callable[[ssl.SSLSocket], None]], str]


@pytest.fixture
def ca(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "own-ca.pem")
    return authority


@pytest.fixture
def listen(ca: trustme.CA) -> Iterator[Listen]:
    """Return a function that has every connection served by another, over TLS, one after the other."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16
    )  # else the kernel takes most of it at once
    threads = []

    def start(serve: Callable[[ssl.SSLSocket], None]) -> str:
        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with tls.wrap_socket(connection, server_side=True) as wrapped:
                    serve(wrapped)

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return f"https://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in threads:
        thread.join(10)


def read_request(connection: ssl.SSLSocket, nap: float = 0) -> tuple[bytes, int]:
    """Return the head of a request and how many bytes of a body came, a piece after each nap."""
    head, _, body = connection.recv(2**16).partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
    received = len(body)
    while received < length and (piece := connection.recv(2**16)):
        received += len(piece)
        time.sleep(nap)
    return head, received


# Slow


def test_a_body_may_take_longer_than_a_connection(
    listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 MiB at some 3 MiB/s: well over the second that one block has."""
    monkeypatch.setattr(http, "TIMEOUT", (1, 60))
    seen: list[tuple[bytes, int]] = []

    def slow_sink(connection: ssl.SSLSocket) -> None:
        seen.append(read_request(connection, nap=0.005))
        connection.sendall(ANSWER)

    url, data = listen(slow_sink), bytes_of(10 * 2**20)
    with Session(str(tmp_path / "own-ca.pem"), Silence()) as session:
        began = time.monotonic()
        answer = session.put(url, data=data)
        took = time.monotonic() - began

    ((head, received),) = seen
    assert (answer.status_code, received) == (200, len(data))
    assert took > 1, "else it shows nothing"
    assert f"content-length: {len(data)}".encode() in head.lower()
    assert b"transfer-encoding" not in head.lower()


def test_a_link_that_is_too_slow_for_a_fragment_gets_smaller_ones(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending = case.sending(LARGE)
    sending.case.drive.make_root(7)
    monkeypatch.setattr(http, "BODY_SECONDS", -1)

    error = sending.fails()

    assert isinstance(error, Disconnected)
    assert sending.session is not None
    assert sending.session["fragment"] == FRAGMENT // 2
    monkeypatch.undo()
    sending.attempt()
    assert sending.is_whole()


# Nobody there


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time as the module sees it, to be changed."""
    found = [time.monotonic()]
    monkeypatch.setattr(http, "monotonic", lambda: found[0])
    return found


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A listening socket where nobody ever answers; how long that is waited for does not matter here."""
    monkeypatch.setattr(http, "TIMEOUT", (0.1, 0.1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def connections(listener: socket.socket) -> int:
    """Return how many have come since the last time."""
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def at(listener: socket.socket) -> str:
    return f"https://127.0.0.1:{listener.getsockname()[1]}"


def refusal(drive: OneDrive) -> HaulageError:
    with pytest.raises(HaulageError) as caught:
        drive.make_root(7)
    return caught.value


@pytest.mark.parametrize("setting", ["graph_url", "login_url"])
def test_where_nobody_answers_nobody_waits_again_for_a_while(
    case: Case, silent: socket.socket, now: list[float], setting: str
) -> None:
    drive = case.elsewhere(**{setting: at(silent)})
    assert isinstance(refusal(drive), DriveUnavailable)
    assert connections(silent) == 1

    told = [refusal(drive) for _ in range(5)]
    now[0] += REST_SECONDS - 1
    told.append(refusal(drive))

    assert {type(one) for one in told} == {DriveUnavailable}, "nothing was begun, so nothing was cut"
    assert connections(silent) == 0
    now[0] += 2
    refusal(drive)
    assert connections(silent) == 1


def test_an_upload_address_where_nobody_answers_holds_up_its_drive_alone(
    case: Case, silent: socket.socket, now: list[float]
) -> None:
    sending, other = case.sending(LARGE), case.sending(LARGE, "b.bin")
    case.drive = case.elsewhere(upload_hosts=f"localhost,127.0.0.1:{silent.getsockname()[1]}")
    case.fault("createUploadSession", "amend", set={"/uploadUrl": f"{at(silent)}/up?tempauth=s"})

    told = [sending.fails(), sending.fails()]

    assert all(isinstance(one, DriveUnavailable) for one in told)
    assert connections(silent) == 1
    other.attempt(case.elsewhere())
    assert other.is_whole()


def test_a_connection_that_is_refused_is_not_tried_again_at_once(
    monkeypatch: pytest.MonkeyPatch, now: list[float]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = at(listener)
    session = Session(None, Silence())
    with pytest.raises(requests.ConnectionError, match="refused"):
        session.get(url)

    for _ in range(3):
        with pytest.raises(Rests, match="nobody takes the connection"):
            session.get(url)


def test_what_ends_in_the_middle_is_tried_again_at_once(listen: Listen, tmp_path: Path) -> None:
    seen: list[Any] = []

    def cut(connection: ssl.SSLSocket) -> None:
        seen.append(connection.recv(1000))

    url = listen(cut)
    session = Session(str(tmp_path / "own-ca.pem"), Silence())

    for _ in range(3):
        with pytest.raises(requests.ConnectionError):
            session.put(url, data=bytes(2**20))

    assert len(seen) == 3


def test_who_gets_an_answer_ends_the_silence_for_all(
    listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two threads one waits in vain while the other one's answer is on its way."""
    silence = Silence()

    def answer(connection: ssl.SSLSocket) -> None:
        read_request(connection)
        silence.begin("a host", requests.ReadTimeout())
        connection.sendall(ANSWER)

    url = listen(answer)

    for _ in range(2):
        with Session(str(tmp_path / "own-ca.pem"), silence) as session:
            assert session.get(url).status_code == 200


# Bytes that are not to be had back


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ({"status": 404}, FileNotFoundError),
        ({"status": 410}, FileNotFoundError),
        (
            {"status": 404, "body": "404 FILE NOT FOUND", "headers": {"Content-Type": "text/plain"}},
            FileNotFoundError,
        ),
        ({"status": 401}, DriveFault),
        ({"status": 403}, DriveFault),
        ({"status": 401, "body": "", "headers": {"Content-Type": "text/plain"}}, DriveFault),
        ({"status": 403, "body": "<html>Forbidden</html>"}, DriveUnavailable),
    ],
)
def test_a_download_address_that_refuses_says_nothing_of_the_drive(
    case: Case, refusal: dict[str, Any], kind: type[Exception]
) -> None:
    made = case.sending(SMALL).attempt()
    case.fault("download.aspx", "answer", **refusal)
    address = case.drive._library.download_address(made.id)
    assert address is not None

    with pytest.raises(kind) as caught:
        list(case.drive._addresses.read(address, 0, None))

    assert type(caught.value) is kind
    assert "tempauth" not in str(caught.value)
    assert b"".join(case.drive._addresses.read(address, 0, None)) == SMALL
