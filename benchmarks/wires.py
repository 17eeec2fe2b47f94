"""The two ways to one server, encrypted and not; either may be closed, and then it is said why."""

import platform
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version

import psycopg2
from sqlalchemy import URL, make_url

TLS, PLAIN = "tls", "plain"
WIRES = {TLS: "over TLS", PLAIN: "without TLS"}
VERIFIED = {"verify-ca", "verify-full"}
OF_TLS = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


class NoWire(RuntimeError):
    """The server lets us in neither way; the message says why for each."""


@dataclass(frozen=True)
class Wires:
    """The URLs for SQLAlchemy of the ways that are open, why others are not, and the versions at both ends."""

    urls: Mapping[str, str]
    left_out: Mapping[str, str]
    versions: str


def open_ways(database_url: str) -> Wires:
    """Try both ways once. Raises NoWire."""
    url = make_url(database_url)
    urls, left_out, server = dict[str, str](), dict[str, str](), ""
    for wire, way in ((TLS, encrypted(url)), (PLAIN, unencrypted(url))):
        try:
            seen = look(way, wire)
            server = server or seen
        except psycopg2.OperationalError as error:
            left_out[wire] = _sentence(wire, error)
        else:
            urls[wire] = _shown(way.set(drivername="postgresql+psycopg2"))
    if not urls:
        raise NoWire("\n".join(left_out.values()))
    client = f"SQLAlchemy {version('sqlalchemy')}, psycopg2 {version('psycopg2-binary')}"
    return Wires(urls, left_out, f"{server}, {client}, Python {platform.python_version()}")


def encrypted(url: URL) -> URL:
    if url.query.get("sslmode") in VERIFIED:
        return url
    return url.update_query_dict({"sslmode": "require"})


def unencrypted(url: URL) -> URL:
    return url.difference_update_query(OF_TLS).update_query_dict({"sslmode": "disable"})


def look(url: URL, wire: str) -> str:
    """Connect, and return what answered; raises psycopg2.OperationalError if this way is closed."""
    with closing(psycopg2.connect(_shown(url.set(drivername="postgresql")), connect_timeout=5)) as connection:
        info = connection.info
        if (
            wire == TLS and not info.ssl_in_use
        ):  # libpq asks for no TLS on a Unix socket, whatever it was told
            raise psycopg2.OperationalError("the connection is not encrypted")
        server = "PostgreSQL " + (info.parameter_status("server_version") or "").partition(" ")[0]
        return f"{server}, {info.ssl_attribute('protocol')}" if info.ssl_in_use else server


def _sentence(wire: str, error: Exception) -> str:
    said = (str(error).strip().splitlines() or ["no reason was given"])[-1]
    cannot = "cannot be reached over TLS" if wire == TLS else "refuses connections without TLS"
    return f"The half {WIRES[wire]} was left out: the server {cannot} ({said})."


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=False)
