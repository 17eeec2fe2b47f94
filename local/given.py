"""Servers that DATABASE_URL and REDIS_URL name: used as they are, neither started nor stopped here."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from psycopg2 import sql
from sqlalchemy import make_url

from local.process import NotStarted

OURS = "HAULAGE_UP"  # set in a shell whose DATABASE_URL and REDIS_URL came from `make up`
NOT_OURS = 0  # the pid of a server that we did not start


def urls() -> tuple[str, str] | None:
    """Return the URLs of PostgreSQL (as libpq reads it) and Redis, or None if we are to start our own.

    Raises NotStarted if only one of the two is given.
    """
    database, redis = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    if (not database and not redis) or os.environ.get(OURS):
        return None
    if not database or not redis:
        raise NotStarted(
            f"{'DATABASE_URL' if database else 'REDIS_URL'} is set alone: set both DATABASE_URL and REDIS_URL, or unset "
            "it, and servers of our own are started"
        )
    return make_url(database).set(drivername="postgresql").render_as_string(hide_password=False), redis


def ca_file(database_url: str) -> Path:
    return Path(str(make_url(database_url).query.get("sslrootcert", "")))


@contextmanager
def throwaway_database(database_url: str) -> Iterator[str]:
    """Make a database of our own on a given server, for the length of the block; return its URL.

    Raises NotStarted if that server cannot be reached or does not let us.
    """
    name = f"haulage_{secrets.token_hex(6)}"
    _execute(database_url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield make_url(database_url).set(database=name).render_as_string(hide_password=False)
    finally:
        _execute(database_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _execute(database_url: str, statement: sql.Composed) -> None:
    try:
        connection = psycopg2.connect(database_url, connect_timeout=5)
    except psycopg2.OperationalError as error:
        raise NotStarted(
            f"DATABASE_URL is set, but its server cannot be used: {str(error).strip()}"
        ) from error
    try:
        connection.autocommit = True
        connection.cursor().execute(statement)
    except psycopg2.Error as error:
        raise NotStarted(
            f"DATABASE_URL's role cannot make a database to work in: {str(error).strip()}; name a role that may "
            "(CREATEDB), or unset DATABASE_URL and REDIS_URL, and servers of our own are started"
        ) from error
    finally:
        connection.close()
