"""Until when the certificates of PostgreSQL and Redis are valid, and those of the CAs that they are checked against.

The standard library tells a certificate's dates only of one that it has verified; so each is verified here, without its
dates, which are judged afterwards.
"""

import os
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError

from app import database
from app.diagnosis.findings import Check, Verdict, bad, good, warning, worst
from app.errors import DatabaseRefused
from app.settings import Settings

WARN_DAYS = 30
ANSWER_SECONDS = 3.0
SYSTEM = "system"  # libpq's word for the CAs that the operating system trusts
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # PostgreSQL's protocol, 55.2.10
_NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the standard library has no name for
UNREADABLE = (DatabaseRefused, ArgumentError, ValueError)
_RENEW = "Issue a new certificate, and have the server load it."


@dataclass(frozen=True)
class Server:
    """Where a certificate is shown. `ca` is None if it is checked against none; `asks_first` is PostgreSQL's way."""

    host: str
    port: int
    ca: str | None
    checks_host: bool
    asks_first: bool


class NoTls(Exception):
    """The server answered, and has no TLS."""


def checks(chosen: Settings) -> Sequence[Sequence[Check]]:
    postgres, redis = partial(_of_postgres, chosen.database_url), partial(_of_redis, chosen.redis_url)
    return [
        [
            Check(f"{name}-certificate", partial(_certificates, servers)),
            Check(f"{name}-ca", partial(_authority, servers)),
        ]
        for name, servers in (("postgresql", postgres), ("redis", redis))
    ]


def _of_postgres(url: str) -> Sequence[Server]:
    parsed = database.engine_url(url)
    mode, ca = str(parsed.query.get("sslmode", "")), parsed.query.get("sslrootcert")
    if mode in {"", "disable"}:  # a socket of this machine; or nobody asks for TLS
        return []
    usual = Path.home() / ".postgresql" / "root.crt"
    found = str(ca or os.environ.get("PGSSLROOTCERT") or (usual if usual.exists() else "")) or None
    if not mode.startswith("verify"):
        found = None
    return [
        Server(host, port, found, mode == "verify-full", asks_first=True) for host, port in _hosts(parsed)
    ]


def _hosts(url: URL) -> Sequence[tuple[str, int]]:
    _, told = url.get_dialect()().create_connect_args(url)  # as libpq gets them: h1,h2 and 5432,5433
    hosts, ports = (str(told.get(name) or "").split(",") for name in ("host", "port"))
    pairs = zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=True)
    return [(host, int(port or 5432)) for host, port in pairs if not host.startswith("/")]


def _of_redis(url: str) -> Sequence[Server]:
    parsed = urlsplit(url)
    if parsed.scheme != "rediss":
        return []
    ca = parse_qs(parsed.query).get("ssl_ca_certs", [SYSTEM])[0]
    return [Server(parsed.hostname or "localhost", parsed.port or 6379, ca, True, asks_first=False)]


def _certificates(servers: "partial[Sequence[Server]]") -> Verdict:
    try:
        found = servers()
    except UNREADABLE:
        return bad("the URL cannot be read", "See postgresql and redis.")
    verdicts = [_certificate(server) for server in found]
    if not verdicts:
        return good("no TLS, no certificate")
    return worst(verdicts)


def _certificate(server: Server) -> Verdict:
    where = f"{server.host}:{server.port}"
    try:
        shown = _shown_by(server)
    except ssl.SSLCertVerificationError as error:
        return bad(
            f"that of {where} is refused: {error.verify_message}",
            "Name the CA that signed it (sslrootcert, ssl_ca_certs), or issue one for the host's name in the URL.",
        )
    except NoTls:
        return bad(f"{where} has no TLS", "Switch TLS on there: ssl = on, with a certificate.")
    except OSError as error:
        return bad(f"{where} showed none: {error.strerror or error}", "Is the server running there?")
    return judged(f"that of {where}", ssl.cert_time_to_seconds(shown), _RENEW)


def _shown_by(server: Server) -> str:
    """Return the notAfter of the certificate that a server shows, once it is verified but for its dates."""
    context = ssl.create_default_context()
    if server.ca is None:  # checked against nothing but itself, since else nobody tells what is in it
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(_unverified(server)))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    elif server.ca != SYSTEM:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(server.ca)
    context.check_hostname = server.checks_host and server.ca is not None
    context.verify_flags |= _NO_CHECK_TIME
    with _tls(server, context) as connection:
        return str((connection.getpeercert() or {})["notAfter"])


def _unverified(server: Server) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with _tls(server, context) as connection:
        return connection.getpeercert(binary_form=True) or b""


def _tls(server: Server, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection((server.host, server.port), timeout=ANSWER_SECONDS)
    try:
        if server.asks_first:
            _ask_for_tls(plain)
        return context.wrap_socket(plain, server_hostname=server.host)
    except BaseException:
        plain.close()
        raise


def _ask_for_tls(plain: socket.socket) -> None:
    plain.sendall(_SSL_REQUEST)
    if plain.recv(1) != b"S":
        raise NoTls


def judged(what: str, ends_at: float, do: str) -> Verdict:
    """Judge until when a certificate is valid: `ends_at` in seconds since 1970."""
    left = ends_at - time.time()
    until = time.strftime("%Y-%m-%d", time.gmtime(ends_at))
    if left < 0:
        return bad(f"{what} was valid until {until}", do)
    if left < WARN_DAYS * 86400:
        return warning(f"{what} is valid until {until}, {int(left // 86400)} more day(s)", do)
    return good(f"{what} is valid until {until}")


def _authority(servers: "partial[Sequence[Server]]") -> Verdict:
    try:
        files = {server.ca for server in servers()}
    except UNREADABLE:
        return bad("the URL cannot be read", "See postgresql and redis.")
    file = next((one for one in files if one not in {None, SYSTEM}), None)
    if file is None:
        return good("no file of one: the system's, or none" if files else "no TLS, no CA")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    do = "Add the new CA to the file, on every machine, before the servers' certificates are issued by it."
    try:
        context.load_verify_locations(file)
    except (OSError, ssl.SSLError) as error:
        return bad(
            f"{file} cannot be read: {error.strerror or error}", "Put the CA's certificate (PEM) there."
        )
    dates = [ssl.cert_time_to_seconds(str(one["notAfter"])) for one in context.get_ca_certs()]
    if not dates:
        return good(f"{file} holds no CA, but the server's own certificate")
    # Of several, as when one takes another's place, the last to end decides.
    return judged(f"the CA in {file}", max(dates), do)
