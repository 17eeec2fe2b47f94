"""Who we are to Microsoft and what is shown to whom: credentials, permissions, hosts, headers, connections, memory, secrets."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from app.drives.onedrive import OneDrive
from app.errors import DriveFault, DriveRefuses, DriveUnavailable, HaulageError, SessionLost
from app.graph.credentials import Identity, credential
from tests.graph.launch import PROJECT, Simulator
from tests.integration.onedrive_case import CONTENT, CREATE, FRAGMENT, UPLOAD_URL, Case, bytes_of

pytest_plugins = ["tests.integration.onedrive_fixtures"]

SMALL = bytes_of(5000)
LARGE = bytes_of(2 * FRAGMENT + 5000)
UNPARSABLE = b"-----BEGIN CERTIFICATE-----\nno\n"
UNKNOWN = "00000000-0000-0000-0000-000000000000"


def refusal(drive: OneDrive) -> HaulageError:
    with pytest.raises(HaulageError) as caught:
        drive.make_root(7)
    return caught.value


# Credentials


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"tenant_id": UNKNOWN}, "there is no tenant with this id"),
        ({"client_id": UNKNOWN}, "no application with this client id"),
        ({"client_secret": "not-the-secret"}, "the client secret is wrong"),
    ],
)
def test_wrong_credentials_stop_the_drive_and_are_told_in_words(
    case: Case, setting: dict[str, str], words: str
) -> None:
    error = refusal(case.elsewhere(**setting))

    assert isinstance(error, DriveRefuses)
    assert words in str(error)
    assert error.delay == timedelta(minutes=5)
    assert "not-the-secret" not in str(error)


def test_an_expired_secret_is_told(case: Case) -> None:
    client = case.simulator.client_id
    case.simulator.control("POST client", id=client, secrets={"old": 0, case.simulator.client_secret: None})

    error = refusal(case.elsewhere(client_secret="old"))

    assert "the client secret has expired" in str(error)


@pytest.fixture
def certified(case: Case, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that writes a PEM file and returns the settings that name it."""

    def make(*, days: int = 30, is_registered: bool = True, name: str = "own.pem") -> dict[str, Any]:
        private, public = certificate(days)
        if is_registered:
            case.simulator.control("POST client", id=case.simulator.client_id, certificates=[public.decode()])
        (tmp_path / name).write_bytes(private + public)
        return {"client_secret": None, "certificate_file": tmp_path / name}

    return make


def certificate(days: int) -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "haulage")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    now = datetime.now(UTC)
    made = made.not_valid_before(now - timedelta(days=60)).not_valid_after(now + timedelta(days=days))
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(pem, *plain), made.sign(key, hashes.SHA256()).public_bytes(pem)


def test_a_certificate_is_as_good_as_a_secret(case: Case, certified: Callable[..., dict[str, Any]]) -> None:
    sending = case.sending(SMALL)

    sending.attempt(case.elsewhere(**certified()))

    assert sending.is_whole()


def test_a_certificate_that_has_ended_is_told_without_asking(
    case: Case, certified: Callable[..., dict[str, Any]]
) -> None:
    given = certified(days=-1)

    error = refusal(case.elsewhere(**given))

    assert isinstance(error, DriveRefuses)
    assert "the certificate in DRIVE_REPORTS_CERTIFICATE_FILE ended on " in str(error)
    assert case.requests() == []


def test_a_certificate_that_nobody_registered_is_told(
    case: Case, certified: Callable[..., dict[str, Any]]
) -> None:
    error = refusal(case.elsewhere(**certified(is_registered=False)))

    assert isinstance(error, DriveRefuses)
    assert "upload its public half" in str(error)


@pytest.mark.parametrize("content", [None, b"", UNPARSABLE, b"\xff\xfe"])
@pytest.mark.parametrize("kind", ["certificate_file", "client_secret_file"])
def test_a_file_that_is_not_to_be_read_is_named_by_its_setting_and_in_the_log_by_its_path(
    case: Case, tmp_path: Path, content: bytes | None, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The message becomes the reason of the drive's pause, which corporations are shown."""
    file = tmp_path / "credential"
    if content is not None:
        file.write_bytes(content)

    error = refusal(case.elsewhere(client_secret=None, **{kind: file}))

    assert isinstance(error, DriveRefuses)
    assert str(tmp_path) not in str(error)
    if kind == "certificate_file" or content != UNPARSABLE:
        assert f"DRIVE_REPORTS_{kind.upper()} is not to be read" in str(error)
        assert str(file) in caplog.text
    else:
        assert "the client secret is wrong" in str(error)


KEY, CERTIFICATE = certificate(30)
LOCKED = serialization.load_pem_private_key(KEY, None).private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.BestAvailableEncryption(b"passphrase"),
)


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        (CERTIFICATE, "holds no private key"),
        (KEY, "holds no certificate"),
        (LOCKED + CERTIFICATE, "has a passphrase"),
        (certificate(30)[0] + CERTIFICATE, "is not that of the certificate"),
    ],
    ids=["no key", "no certificate", "locked", "another"],
)
def test_what_a_certificates_file_lacks_is_told(case: Case, tmp_path: Path, pem: bytes, why: str) -> None:
    file = tmp_path / "own.pem"
    file.write_bytes(pem)

    error = refusal(case.elsewhere(client_secret=None, certificate_file=file))

    assert isinstance(error, DriveRefuses)
    assert "DRIVE_REPORTS_CERTIFICATE_FILE" in str(error)
    assert why in str(error)
    assert str(tmp_path) not in str(error)


def test_who_runs_the_system_is_told_the_path(tmp_path: Path) -> None:
    with pytest.raises(DriveRefuses, match=str(tmp_path)):
        credential(Identity("tenant", "client", certificate=tmp_path / "own.pem"))


def test_a_credential_that_was_put_right_on_disk_is_taken_up_without_a_new_start(
    case: Case, tmp_path: Path, certified: Callable[..., dict[str, Any]]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    by_secret = case.elsewhere(client_secret=None, client_secret_file=secret)
    by_certificate = case.elsewhere(**certified(days=-1))
    refusal(by_secret)
    refusal(by_certificate)

    secret.write_text(f"{case.simulator.client_secret}\n")
    certified(days=30)

    assert by_secret.make_root(7).id == by_certificate.make_root(7).id


def test_a_clock_that_is_slow_is_told_where_it_matters(
    case: Case, certified: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What we sign ourselves says until when it is good, by our own clock."""
    hour_ago = SimpleNamespace(time=lambda: time.time() - 3600)
    drive = case.elsewhere(**certified())
    monkeypatch.setattr("msal.oauth2cli.assertion.time", hour_ago)

    error = refusal(drive)

    assert isinstance(error, DriveRefuses)
    assert "is this machine's clock right?" in str(error)


@pytest.mark.parametrize("off_by", [-3600, 3600])
def test_a_clock_that_is_off_does_not_matter_elsewhere(case: Case, off_by: int) -> None:
    case.simulator.control("POST clock", off_by=off_by)
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=3, when="after")

    sending.fails()
    sending.attempt()

    assert sending.is_whole()
    assert len(case.requests("/oauth2/", "POST")) == 1


def test_a_token_is_asked_for_once(case: Case) -> None:
    for number in range(5):
        case.sending(SMALL, f"{number}").attempt()

    assert len(case.requests("/oauth2/", "POST")) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "answer", "status": 503, "body": "<html>busy</html>"},
        {"action": "answer", "status": 500, "code": "generalException"},
        {"action": "answer", "status": 200, "body": "<html>Sign in</html>"},
        {"action": "answer", "status": 302, "body": "", "headers": {"Location": "/elsewhere"}},
        {"action": "cut"},
    ],
)
@pytest.mark.parametrize("path", ["openid-configuration", "/oauth2/"])
def test_a_login_service_in_trouble_burns_nothing(case: Case, path: str, fault: dict[str, Any]) -> None:
    drive = case.elsewhere()
    case.fault(path, **fault)

    error = refusal(drive)

    assert type(error) is DriveUnavailable
    case.simulator.control("DELETE faults")


# Permissions


@pytest.mark.parametrize("roles", [[], ["Sites.Read.All"], ["Sites.Selected"]])
def test_a_permission_that_is_missing_is_told_in_words(case: Case, roles: list[str]) -> None:
    case.simulator.control("POST client", id="poor", secrets={"s": None}, roles=roles)

    error = refusal(case.elsewhere(client_id="poor", client_secret="s"))

    assert isinstance(error, DriveRefuses)
    assert "needs Sites.ReadWrite.All" in str(error)


def test_the_role_write_on_one_site_is_enough_there_and_nowhere_else(
    case: Case, graph_tls: Simulator
) -> None:
    other = graph_tls.control("POST drives", site="other")
    graph_tls.control(
        "POST client",
        id="narrow",
        secrets={"s": None},
        roles=["Sites.Selected"],
        grants={other["site"]: "write"},
    )
    narrow = {"client_id": "narrow", "client_secret": "s"}

    refused = refusal(case.elsewhere(**narrow))
    allowed = Case(graph_tls, other["id"], **narrow).sending(SMALL)
    allowed.attempt()

    assert isinstance(refused, DriveRefuses)
    assert "on this very site" in str(refused)
    assert allowed.is_whole()


# What is shown to whom


def test_an_upload_address_never_sees_our_token(case: Case) -> None:
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=2)
    sending.attempt()
    list(case.drive.read(case.files()["a.bin"]["id"]))
    broken = case.sending(LARGE, "b")
    broken.watch.session = sending.session
    broken.attempt()

    outside = [*case.requests("/_api/"), *case.requests("download.aspx")]
    assert {one["method"] for one in outside} == {"PUT", "GET", "DELETE"}
    assert not any(one["authorization"] for one in outside)
    assert all(one["authorization"] for one in case.requests("/v1.0/"))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://files.example/up?tempauth=s", "the host files.example,"),
        ("http://contoso.sharepoint.com/up?tempauth=s", "the host contoso.sharepoint.com,"),
        ("https://contoso.sharepoint.com.example/up", "the host contoso.sharepoint.com.example,"),
        ("https://127.0.0.1:1/up", "the host 127.0.0.1,"),
        ("https://tempauth=s@files.example/up", "the host files.example,"),
        ("https://files%2ftempauth=s/up", "a host without a proper name,"),
        ("https://[tempauth/up", "a host without a proper name,"),
        ("https://a..sharepoint.com/up?tempauth=s", "a host without a proper name,"),
        (f"https://{'a' * 64}.sharepoint.com/up?tempauth=s", "a host without a proper name,"),
    ],
)
def test_nothing_is_sent_to_a_foreign_host(
    case: Case, url: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending = case.sending(LARGE)
    case.fault(CREATE, "amend", set={"/uploadUrl": url})
    asked: list[str] = []
    real = case.drive._addresses._sessions.http.request
    monkeypatch.setattr(
        case.drive._addresses._sessions.http,
        "request",
        lambda *a, **k: (asked.append(a[1]), real(*a, **k))[1],
    )

    error = sending.fails()

    assert isinstance(error, DriveFault)
    assert "nothing was sent there" in str(error)
    assert host in str(error)
    assert "DRIVE_REPORTS_UPLOAD_HOSTS" in str(error)
    assert "tempauth" not in str(error)
    assert asked == []
    assert sending.session is not None
    case.drive.abort(sending.session, sending.delivery)


def test_no_password_is_taken_from_netrc_and_no_redirect_followed(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text(
        "machine localhost login me password p\nmachine 127.0.0.1 login me password p\n"
    )
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "answer", method="PUT", status=307, headers={"Location": "/elsewhere"})

    sending.fails()
    sending.attempt()

    assert sending.is_whole()
    assert not any(one["authorization"] for one in case.requests("/_api/"))
    assert not any(one["authorization"] for one in case.requests("/oauth2/"))
    assert case.requests("/elsewhere") == []


def test_the_user_agent_is_the_one_microsoft_asks_for(case: Case) -> None:
    case.sending(LARGE).attempt()

    assert {one["user_agent"] for one in case.requests()} == {"NONISV|Haulage|Haulage/1.0"}


def test_many_files_go_over_three_connections(case: Case) -> None:
    """One to the login service, one to Graph, one to the host of the upload addresses."""
    for number in range(10):
        case.sending(SMALL, f"small {number}").attempt()
        case.sending(LARGE, f"large {number}").attempt()

    used = {
        kind: {one["connection"] for one in case.requests(path)}
        for kind, path in (("login", "/oauth2/"), ("graph", "/v1.0/"), ("uploads", "/_api/"))
    }
    assert {kind: len(connections) for kind, connections in used.items()} == {
        "login": 1,
        "graph": 1,
        "uploads": 1,
    }
    assert not used["graph"] & used["uploads"]


def test_a_server_whose_certificate_does_not_hold_gets_nothing(case: Case, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(certificate(30)[1])

    error = refusal(case.elsewhere(ca_file=other))

    assert isinstance(error, DriveUnavailable)
    assert case.requests() == []


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file"), (b"", "no PEM"), (b"-----BEGIN CERTIFICATE-----", "no PEM")]
)
def test_a_ca_that_is_not_to_be_read_stops_the_drive(
    case: Case, tmp_path: Path, content: bytes | None, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What requests raises of it is no error of its own, and would burn every attempt."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(DriveRefuses, match="DRIVE_REPORTS_CA_FILE is not to be read") as caught:
        case.elsewhere(ca_file=file)

    assert why in str(caught.value)
    assert str(file) not in str(caught.value)
    assert str(file) in caplog.text


def test_a_ca_that_goes_away_under_way_stops_the_drive(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(Path(case.simulator.ca_file).read_bytes())
    drive = case.elsewhere(ca_file=file)
    drive.make_root(7)
    file.unlink()

    with pytest.raises(DriveRefuses, match="CA_FILE"):
        drive.make_root(7)

    file.write_bytes(Path(case.simulator.ca_file).read_bytes())
    drive.make_root(7)


def test_nobody_at_the_address_is_told_from_a_connection_that_ended(case: Case) -> None:
    case.drive.make_root(7)

    error = refusal(case.elsewhere(graph_url="https://127.0.0.1:1/v1.0"))

    assert type(error) is DriveUnavailable
    assert "cannot be reached" in str(error)


def test_no_log_holds_a_secret_whatever_goes_wrong(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=2)
    case.fault(UPLOAD_URL, "answer", method="GET", status=404, code="itemNotFound")

    error = sending.fails()
    logging.getLogger("app.attempt").warning("attempt 1 failed", exc_info=error)

    assert isinstance(error, SessionLost)
    token = case.drive._library._graph._tokens.token()
    for secret in ("tempauth", "uploadSession", token, case.simulator.client_secret):
        assert secret not in caplog.text
    assert "SessionLost" in caplog.text


# Memory


PROGRAM = """
import json, resource, sys
from pathlib import Path
sys.path.insert(0, {project!r})
from app import transfer
from app.drive_settings import OneDriveSettings
from app.drives import registry
from app.graph.meter import Meter
from tests.integration.onedrive_case import NotingWatch
from app.drives.base import Delivery
from app.quickxor import QuickXor
from uuid import uuid4

given = json.loads(sys.stdin.readline())
drive = registry.onedrive("reports", OneDriveSettings(**given), Meter("reports"))
root = drive.make_root(7).id

def send(name):
    path, hashed = Path(sys.argv[1]) / name, QuickXor()
    with path.open("rb") as file:
        while data := file.read(2**20):
            hashed.update(data)
    delivery = Delivery(uuid4(), root, name, path.stat().st_size, "", hashed.digest())
    session, last = transfer.send(drive, delivery, lambda: path.open("rb"), None, NotingWatch())
    drive.finish(delivery, session, last, lambda: None)

send("small")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
send("large")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("mib", [100, pytest.param(300, marks=pytest.mark.prove)])
def test_a_large_file_does_not_grow_the_process(graph_tls: Simulator, tmp_path: Path, mib: int) -> None:
    case = Case(graph_tls, graph_tls.new_drive())
    (tmp_path / "small").write_bytes(SMALL)
    with (tmp_path / "large").open("wb") as large:
        for number in range(mib):
            large.write(bytes([number % 251]) * 2**20)
    chosen = case.chosen().model_dump_json()

    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(project=str(PROJECT)), str(tmp_path)],
        input=chosen,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
    )

    assert ended.returncode == 0, ended.stderr
    grown_kib = int(ended.stdout)
    assert grown_kib < 64 * 1024
    assert case.files()["large"]["size"] == mib * 2**20
    assert CONTENT in case.requests("small")[0]["path"]
