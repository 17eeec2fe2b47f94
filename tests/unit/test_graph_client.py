"""What the client of Graph decides by itself: which hosts are asked, what a broken request says, what is logged."""

import logging
import socket
import ssl
import threading
import traceback
from collections.abc import Iterator
from datetime import timedelta

import pytest
import requests
from urllib3.exceptions import MaxRetryError, NameResolutionError, NewConnectionError

from app.drives.verification import ALTERED
from app.errors import Disconnected, DriveUnavailable
from app.graph.answers import Answer, pause
from app.graph.client import MICROSOFT_HOSTS, Addresses, Request, _claims, _unreachable
from app.graph.http import Session, Silence
from app.graph.meter import Meter


@pytest.fixture
def addresses() -> Addresses:
    return Addresses((*MICROSOFT_HOSTS, "files.example", "other.example:8443"), Meter("reports"), None)


@pytest.mark.parametrize(
    "url",
    [
        "https://contoso.sharepoint.com/_api/v2.0/up?tempauth=s",
        "https://contoso-my.sharepoint.com:443/up",
        "https://api.onedrive.com/rup/1",
        "https://FILES.example/up",
        "https://files.example:444/up",
        "https://other.example:8443/up",
    ],
)
def test_a_known_host_is_asked(addresses: Addresses, url: str) -> None:
    assert addresses.knows(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://contoso.sharepoint.com/up",
        "https://sharepoint.com.evil.example/up",
        "https://evilsharepoint.com/up",
        "https://evil.example/.sharepoint.com",
        "https://evil.example?.sharepoint.com",
        "https://evil.example#.sharepoint.com",
        "https://contoso.sharepoint.com@evil.example/up",
        "https://evil.example@contoso.sharepoint.com/up",
        "https://evil.example\\.sharepoint.com/up",
        "https://evil.example%2f.sharepoint.com/up",
        "https://evil.example\t.sharepoint.com/up",
        "https://contoso.sharepoint.com:99999/up",
        "https://[::1/up",
        "https://sub.files.example/up",
        "https://other.example/up",
        "https:///up",
        "//contoso.sharepoint.com/up",
        "",
    ],
)
def test_any_other_is_not_nor_what_two_parsers_read_in_two_ways(addresses: Addresses, url: str) -> None:
    assert not addresses.knows(url)


def test_a_request_is_logged_by_its_kind_alone() -> None:
    kinds = {
        "/drives/b!x/items/1:/my%20salary.xlsx:/content?@microsoft.graph.conflictBehavior=fail": "content",
        "/drives/b!x/items/1:/my%20salary.xlsx:/createUploadSession": "createUploadSession",
        "/drives/b!x/items/1:/my%20salary.xlsx": "an item",
        "/drives/b!x/items/1": "an item",
        "/drives/b!x/items/1/children?$top=1000": "children",
        "/drives/b!x": "an item",
    }

    assert {path: Request("GET", path).kind for path in kinds} == {
        path: f"GET of {kind}" for path, kind in kinds.items()
    }


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 30),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "-7"}, 30),
        ({"retry-after": "1.5"}, 30),
        ({"retry-after": "\u0667"}, 7),
        ({"retry-after": "99999999999999999999"}, 3600),
        (
            {"retry-after": "Fri, 20 Nov 2026 12:00:45 GMT", "date": "Fri, 20 Nov 2026 12:00:00 GMT"},
            45,
        ),
        (
            {"retry-after": "Fri, 20 Nov 2026 12:00:00 GMT", "date": "Fri, 20 Nov 2026 12:00:45 GMT"},
            1,
        ),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:45 -0000", "date": "Fri, 20 Nov 2026 12:00:00 GMT"}, 30),
    ],
)
def test_a_pause_is_what_was_asked_between_a_second_and_an_hour(
    headers: dict[str, str], seconds: int
) -> None:
    assert pause(Answer(429, headers, {})) == timedelta(seconds=seconds)


def test_what_was_never_begun_is_told_from_what_ended_in_the_middle() -> None:
    refused = MaxRetryError(None, "/up?tempauth=s", NewConnectionError(None, "refused"))  # type: ignore[arg-type]
    begun = requests.ConnectionError(ConnectionResetError("tempauth=s"))

    unknown = MaxRetryError(None, "/up?tempauth=s", NameResolutionError("x", None, OSError()))  # type: ignore[arg-type]
    untrusted = _caused(requests.exceptions.SSLError("x"), ssl.SSLCertVerificationError("x"))

    for error, kind, words in [
        (requests.ConnectionError(refused), DriveUnavailable, "nobody takes the connection"),
        (requests.ConnectionError(unknown), DriveUnavailable, "nobody knows its name"),
        (requests.ConnectTimeout("tempauth=s"), DriveUnavailable, "does not answer"),
        (requests.exceptions.ProxyError("tempauth=s"), DriveUnavailable, "the proxy"),
        (untrusted, DriveUnavailable, "certificate does not hold"),
        (_caused(requests.exceptions.SSLError("x"), ssl.SSLEOFError("tempauth=s")), Disconnected, "middle"),
        (requests.ReadTimeout("tempauth=s"), Disconnected, "middle"),
        (requests.exceptions.ChunkedEncodingError("tempauth=s"), Disconnected, "middle"),
        (begun, Disconnected, "middle"),
    ]:
        told = _unreachable(error, "https://files.example/up?tempauth=s")
        assert type(told) is kind, error
        assert words in str(told)
        assert "tempauth" not in str(told)
        assert ("files.example" in str(told)) == (kind is DriveUnavailable)


def _caused(error: requests.RequestException, cause: Exception) -> requests.RequestException:
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("challenge", "claims"),
    [
        ('Bearer realm="", error="insufficient_claims", claims="eyJhIjogMX0="', '{"a": 1}'),
        ('Bearer claims="eyJhIjogMX0"', '{"a": 1}'),
        ('Bearer claims="/w=="', None),
        ('Bearer claims="e"', None),
        ('Bearer error="expired_token"', None),
        ("", None),
    ],
)
def test_a_challenge_tells_its_claims(challenge: str, claims: str | None) -> None:
    assert _claims(challenge) == claims


@pytest.fixture
def crooked_server() -> Iterator[str]:
    """A server whose answer has a header that is none."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nno header at all\r\nContent-Length: 2\r\n\r\n{}")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join(10)
    listener.close()


def test_the_library_below_never_logs_an_address(
    crooked_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    with Session(None, Silence()) as session:
        session.get(f"{crooked_server}/up?tempauth=s")

    assert "tempauth" not in caplog.text


@pytest.mark.parametrize("way", ["ask", "read"])
def test_no_trace_of_an_error_shows_an_address(way: str) -> None:
    """What requests says of a connection that could not be made has the whole address in it: shown by the control."""
    url = "https://127.0.0.1:1/up?tempauth=s"
    addresses = Addresses(("127.0.0.1:1",), Meter("reports"), None)
    with pytest.raises(requests.ConnectionError) as control:
        requests.get(url, timeout=10)

    with pytest.raises(DriveUnavailable) as caught:
        addresses.ask("GET", url) if way == "ask" else next(addresses.read(url, 0, None))

    assert "tempauth" in "".join(traceback.format_exception(control.value))
    assert "tempauth" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("suffix", [".docx", ".XLSM", ".pptx", ".doc", ".html", ".jpeg", ".vsdx"])
def test_what_sharepoint_may_alter_is_known_by_its_suffix(suffix: str) -> None:
    assert ALTERED.fullmatch(suffix)


@pytest.mark.parametrize("suffix", ["", ".pdf", ".zip", ".docxx", ".txt", ".png", "docx"])
def test_nothing_else_may_differ(suffix: str) -> None:
    assert not ALTERED.fullmatch(suffix)


def test_a_meter_counts_and_forgets() -> None:
    meter = Meter("reports")
    meter.count(2)
    meter.count(1)

    taken = meter.take()

    assert (sum(one.requests for one in taken), sum(one.units for one in taken)) == (2, 3)
    assert {(one.drive, one.starts_at % 60) for one in taken} == {("reports", 0)}
    assert meter.take() == []
