"""The only module that makes an engine: one per process, made when first used, never shared over a fork."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy import URL, Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from app import forksafe
from app.errors import DatabaseRefused
from app.settings import settings

log = logging.getLogger(__name__)

DRIVER = "postgresql+psycopg2"
OLDEST_SERVER = 140000
READ_ONLY = {"25006"}  # read_only_sql_transaction: a failover has left us with a server that follows another
IN_THE_WAY = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock_timeout
QUERY_CANCELED = "57014"  # by statement_timeout: the server is there, the statement was too slow

# How long PostgreSQL lets this application's sessions do what they should not, in milliseconds.
STATEMENT_TIMEOUT_MS = 15_000
SESSION_OPTIONS = {
    "statement_timeout": STATEMENT_TIMEOUT_MS,
    "lock_timeout": 3_000,
    "idle_in_transaction_session_timeout": 15_000,
    "client_connection_check_interval": 1_000,  # the query of a killed child ends within a second
}
# libpq's own defaults leave a half-open connection hanging for more than 75 s; these find it within 10 s.
SOCKET_OPTIONS = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

_process: dict[str, Any] = {"role": "haulage"}


def engine_url(url: str) -> URL:
    """Read a PostgreSQL URL of any common form, for psycopg2, with TLS fully verified unless it says otherwise.

    Raises DatabaseRefused, with what to write instead, for anything that is not PostgreSQL or names another driver.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseRefused(
            "DATABASE_URL cannot be read; write postgresql://user:password@host:5432/database, and for several hosts "
            "postgresql://user:password@/database?host=h1:5432&host=h2:5432"
        ) from None  # the error's own text may hold the password
    if parsed.drivername not in {"postgres", "postgresql", DRIVER}:
        raise DatabaseRefused(
            f"DATABASE_URL begins with {parsed.drivername}://; Haulage uses PostgreSQL through psycopg2: postgresql://"
        )
    return _with_tls(parsed.set(drivername=DRIVER))


def _with_tls(url: URL) -> URL:
    if _is_local_socket(url):
        return url
    mode = url.query.get("sslmode")
    if mode is None:
        return url.update_query_dict({"sslmode": "verify-full"})
    if mode != "verify-full":
        log.warning("DATABASE_URL asks for sslmode=%s, which does not prove who the server is", mode)
    return url


def _is_local_socket(url: URL) -> bool:
    host = url.host or url.query.get("host") or ""
    return not host or str(host).startswith("/")


def make_engine(url: str, pool_size: int, **options: Any) -> Engine:
    """Make an engine with this application's settings; nothing connects yet."""
    made = create_engine(
        engine_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        pool_recycle=300,
        hide_parameters=True,  # parameters hold names and hashes; errors end up in logs
        **options,
    )
    event.listen(made, "do_connect", _connect)
    event.listen(made, "connect", _refuse_unfit_server)
    event.listen(made, "handle_error", _leave_read_only_server)
    return made


def _leave_read_only_server(context: Any) -> None:
    """Have the pool connect anew: a ping finds nothing wrong with a server that takes no writes any more."""
    if getattr(context.original_exception, "pgcode", None) in READ_ONLY:
        context.is_disconnect = True


def _connect(_dialect: object, _record: object, args: Any, options: Any) -> Any:
    """Connect with everything that must be worked out in this process: a static argument would keep the parent's pid."""
    session = " ".join(f"-c {name}={value}" for name, value in SESSION_OPTIONS.items())
    options["options"] = f"{options.get('options', '')} {session}".strip()
    for name, value in SOCKET_OPTIONS.items():
        options.setdefault(name, value)
    options.setdefault("application_name", f"{os.getpid()} {_process['role']}@{socket.gethostname()}"[:63])
    try:
        return psycopg2.connect(*args, **options)
    except psycopg2.OperationalError as error:
        raise _explained(error) from error


def _explained(error: psycopg2.OperationalError) -> Exception:
    message = str(error)
    if "unsupported startup parameter" in message:
        return DatabaseRefused(
            "A PgBouncer is in the way that does not pass on session settings (statement_timeout and others); "
            "connect to PostgreSQL itself"
        )
    if "root certificate file" in message:
        return DatabaseRefused(
            "TLS is verified, and no CA certificate was found: add sslrootcert=/path/to/ca.crt to DATABASE_URL, "
            "or sslrootcert=system for a public CA"
        )
    return error


def _refuse_unfit_server(connection: Any, _record: object) -> None:
    if connection.server_version < OLDEST_SERVER:
        raise DatabaseRefused("PostgreSQL 14 or newer is needed")
    with connection.cursor() as cursor:
        cursor.execute("SELECT setting FROM pg_settings WHERE name = 'statement_timeout'")
        effective = cursor.fetchone()[0]
    connection.rollback()
    if int(effective) != STATEMENT_TIMEOUT_MS:
        raise DatabaseRefused(
            "The session settings do not arrive (statement_timeout is not ours): a PgBouncer that ignores `options` "
            "is in the way; connect to PostgreSQL itself"
        )


def play(role: str, pool_size: int | None = None) -> None:
    """Say what this process is (it shows in pg_stat_activity) and how many connections it may hold."""
    _process["role"] = role
    if pool_size is not None:
        _process["pool_size"] = pool_size


def engine() -> Engine:
    """Return this process's engine."""
    # setdefault is atomic: of two threads that both get here first, one engine is kept, and the other never connected.
    made = _process.get("engine") or _process.setdefault("engine", _engine_from_settings())
    assert isinstance(made, Engine)  # noqa: S101  for the type checker
    return made


def _engine_from_settings() -> Engine:
    chosen = settings()
    reset = chosen.db_pool_reset_on_return
    made = make_engine(
        chosen.database_url,
        _process.get("pool_size", chosen.db_pool_size),
        pool_reset_on_return=None if reset == "none" else reset,
        echo_pool={"": None, "info": True, "debug": "debug"}[chosen.db_echo_pool],
    )
    if reset == "none":
        event.listen(made, "checkin", _roll_back_what_comes_home_open)
    forksafe.install()
    _process["born_in"] = os.getpid()
    return made


def _roll_back_what_comes_home_open(connection: Any, _record: object) -> None:
    """Take the place of the pool's own reset where it was switched off."""
    if connection is None or connection.closed:
        return
    if connection.info.transaction_status != TRANSACTION_STATUS_IDLE:
        log.error("A connection came back to the pool inside a transaction; rolled back")
        connection.rollback()


def renew_in_child() -> None:
    """Dispose the inherited engine without closing its connections, and give this process a fresh pool.

    Does nothing in the process that the engine was born in: its pool is alive (Celery's solo pool sends
    `worker_process_init` there).
    """
    inherited: Engine | None = _process.get("engine")
    if inherited is not None and _process["born_in"] != os.getpid():
        inherited.dispose(close=False)  # closing would say goodbye over the parent's own connection
        _process["born_in"] = os.getpid()


def dispose() -> None:
    """Close this process's idle connections, so that the server hears a goodbye."""
    made: Engine | None = _process.get("engine")
    if made is not None and _process["born_in"] == os.getpid():
        made.dispose()


@contextmanager
def session_scope() -> Iterator[Session]:
    """One unit of work: commits on the way out, rolls back on anything else, closes always."""
    session = Session(engine(), expire_on_commit=False)
    try:
        yield session
        session.commit()
    except BaseException:  # SystemExit and soft time limits too
        _roll_back_or_invalidate(session)
        raise
    finally:
        session.close()


def _roll_back_or_invalidate(session: Session) -> None:
    """Roll back; if even that fails throw the connection away. Its failure must not hide the first error."""
    try:
        session.rollback()
    except Exception:
        log.warning("A rollback failed; its connection is thrown away", exc_info=True)
        session.invalidate()


def is_out_of_reach(error: BaseException) -> bool:
    """True if PostgreSQL could not be reached, was shutting down, had no connection left, or takes no writes: try again later."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    code = getattr(error.orig, "pgcode", None)
    if code is None:  # psycopg2 knows no code where no server answered
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    return code in READ_ONLY or (code[:2] in {"08", "53", "57"} and code != QUERY_CANCELED)


def is_passing(error: BaseException) -> bool:
    """True if the same transaction may well succeed a moment later: out of reach, or in the way of others."""
    code = getattr(error.orig, "pgcode", None) if isinstance(error, DBAPIError) else None
    return is_out_of_reach(error) or code in IN_THE_WAY


def short_lived_engine(url: str) -> Engine:
    """An engine that keeps no connection: for migrations, and for a look from outside."""
    made = create_engine(engine_url(url), poolclass=NullPool, hide_parameters=True)
    event.listen(made, "do_connect", _connect_slowly)
    return made


def _connect_slowly(_dialect: object, _record: object, _args: object, options: Any) -> None:
    options.setdefault("connect_timeout", 5)
    options.setdefault("application_name", f"{os.getpid()} {_process['role']}@{socket.gethostname()}"[:63])


def ping() -> None:
    """Ask PostgreSQL for an answer; raise what stands in the way."""
    with session_scope() as session:
        session.execute(text("SELECT 1"))
