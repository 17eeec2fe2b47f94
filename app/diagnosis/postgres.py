"""PostgreSQL as this installation's role finds it: there, encrypted, current, and the role neither too weak nor too strong."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from app import database, schema
from app.diagnosis import clocks
from app.diagnosis.findings import Check, Verdict, bad, first_line, good, warning, worst
from app.diagnosis.reading import Engines, reading
from app.errors import DatabaseRefused
from app.settings import Settings

# What libpq says, and what a person does about it; the first that fits.
_CURES = (
    (
        "could not translate host name",
        (
            "Correct the host in DATABASE_URL. In a password @ must be written as %40, / as %2F, # as %23: or what comes "
            "after it is taken for the host."
        ),
    ),
    ("root certificate file", "Add sslrootcert=/path/to/ca.crt to DATABASE_URL, or sslrootcert=system."),
    (
        "certificate",
        "See postgresql-certificate and postgresql-ca; sslrootcert must name the CA that signed it.",
    ),
    ("does not support SSL", "Switch TLS on in PostgreSQL: ssl = on."),
    ("pg_hba.conf", "Let this role in from this machine: a line `hostssl` in pg_hba.conf."),
    (
        "authentication failed",
        "Correct user and password in DATABASE_URL; special characters are percent-encoded.",
    ),
    ("no password supplied", "Put the password into DATABASE_URL."),
    ("does not exist", "Create it, or correct DATABASE_URL; then run `haulage migrate`."),
    (
        "too many",
        "Raise max_connections, or end what holds the sessions: SELECT * FROM pg_stat_activity.",
    ),
    (
        "connection slots",
        "Raise max_connections, or end what holds the sessions: SELECT * FROM pg_stat_activity.",
    ),
)
_CURE = "Start PostgreSQL, or correct host and port in DATABASE_URL; is a firewall between?"


def checks(chosen: Settings, engines: Engines) -> Sequence[Check]:
    engine = partial(engines, chosen.database_url)
    return (
        Check("postgresql", lambda: _postgresql(engine), is_gate=True),
        Check("postgresql-session", lambda: _session(chosen)),
        Check("postgresql-tls", lambda: _tls(engine())),
        Check("clock-postgresql", lambda: _clock(engine())),
        Check("roles", lambda: _roles(engine())),
        Check("owner", lambda: _owner(chosen.owner_database_url, engines)),
        Check("schema", lambda: _schema(engine()), is_gate=True),
    )


def _postgresql(engine: Callable[[], Engine]) -> Verdict:
    try:
        with reading(engine()) as connection:
            return _reached(connection)
    except DatabaseRefused as error:
        return bad(str(error), "Correct DATABASE_URL.")
    except DBAPIError as error:
        said = first_line(error)
        cure = next((cure for fragment, cure in _CURES if fragment in said), _CURE)
        if cure is _CURES[0][1]:
            said = "no machine has the name of the host"  # which may be the end of a password
        return bad(f"cannot be used: {said}", cure)


def _reached(connection: Connection) -> Verdict:
    version, role = _version(connection), connection.scalar(text("SELECT current_user"))
    told = f"PostgreSQL {version // 10000}.{version % 10000} answers the role {role}"
    if version < database.OLDEST_SERVER:
        return bad(told, "Upgrade PostgreSQL to 14 or newer.")
    if connection.scalar(text("SELECT pg_is_in_recovery()")):
        return bad(f"{told}, but is a standby that nothing can be written to", "Name the primary.")
    return good(told)


def _version(connection: Connection) -> int:
    """Return the version as libpq was told it, 170010 for 17.10."""
    server: int = getattr(connection.connection.dbapi_connection, "server_version", 0)
    return server


def _session(chosen: Settings) -> Verdict:
    engine = database.make_engine(chosen.database_url, 1)
    try:
        with engine.connect():
            return good("a session has our statement_timeout and other settings; no PgBouncer takes them")
    except DatabaseRefused as error:
        return bad(
            str(error),
            "Let DATABASE_URL name PostgreSQL itself (5432 as a rule, PgBouncer has 6432), 14 or newer.",
        )
    finally:
        engine.dispose()


def _tls(engine: Engine) -> Verdict:
    mode = engine.url.query.get("sslmode")
    if mode is None:
        return good("a socket of this machine needs none")
    with reading(engine) as connection:
        encrypted, version = connection.execute(
            text("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        ).one()
    if not encrypted:
        return bad(
            f"this session is not encrypted (sslmode={mode})",
            "Take sslmode out of DATABASE_URL, and name the CA with sslrootcert; ssl = on in PostgreSQL.",
        )
    if mode != "verify-full":
        return warning(
            f"{version} encrypts this session, but sslmode={mode} does not prove who the server is",
            "Take sslmode out of DATABASE_URL (verify-full is the default), and name the CA with sslrootcert.",
        )
    return good(f"{version} encrypts this session, and the server is proved (verify-full)")


def _clock(engine: Engine) -> Verdict:
    with reading(engine) as connection:
        before = clocks.now()
        theirs = connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())::float8")) or 0.0
        return clocks.apart(theirs, before, clocks.now(), "PostgreSQL's")


# Of the roles that work here, this one's first: what they may do beyond their work.
_STRENGTHS = text("""
    SELECT quote_ident(rolname), rolname = current_user AS is_ours, rolsuper,
        rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication,
        EXISTS (
            SELECT FROM pg_namespace WHERE nspname = 'corporate' AND pg_has_role(rolname, nspowner, 'MEMBER')
        ),
        array(
            SELECT DISTINCT split_part(split_part(a.application_name, ' ', 2), '@', 1) FROM pg_stat_activity a
            WHERE a.datname = current_database() AND a.usename = rolname
                AND a.application_name ~ '^[0-9]+ (web|worker)@'
        ) AS plays
    FROM pg_roles WHERE rolname = current_user OR rolname IN (
        SELECT a.usename FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.application_name ~ '^[0-9]+ (web|worker)@'
    )
    ORDER BY is_ours DESC, rolname
""")
_OF_ITS_OWN = "Make the roles of docs/operating.md, Roles, and let each process connect as its own."


def _roles(engine: Engine) -> Verdict:
    with reading(engine) as connection:
        found = connection.execute(_STRENGTHS).all()
    fine = good(f"no more than they need: {', '.join(row[0] for row in found)}")
    return worst([fine, *(one for row in found if (one := _too_strong(row)))])


def _too_strong(row: Sequence[Any]) -> Verdict | None:
    name, _, is_super, is_strong, is_owner, plays = row
    if is_super:
        return bad(f"{name} is a superuser: whoever takes over one of its processes has all", _OF_ITS_OWN)
    if is_owner:
        return warning(f"{name} owns the schema: its processes could drop it", _OF_ITS_OWN)
    if is_strong:
        return warning(
            f"{name} may make roles or databases, replicate, or pass by row security",
            f"As a superuser: ALTER ROLE {name} NOCREATEROLE NOCREATEDB NOBYPASSRLS NOREPLICATION",
        )
    return warning(f"{name} is the role of web and workers alike", _OF_ITS_OWN) if len(plays) > 1 else None


def _owner(url: str | None, engines: Engines) -> Verdict:
    if url is None:
        return good("OWNER_DATABASE_URL is not set here, as it should be for web and workers")
    do = "Correct OWNER_DATABASE_URL: `haulage migrate`, `corp` and `token` connect with it."
    try:
        with reading(engines(url)) as connection:
            owns = connection.scalar(
                text("SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'corporate'")
            )
    except DatabaseRefused as error:
        return bad(str(error).replace("DATABASE_URL", "OWNER_DATABASE_URL"), do)
    except DBAPIError as error:
        return bad(f"OWNER_DATABASE_URL cannot be used: {first_line(error)}", do)
    if owns is False:
        return bad("the role in OWNER_DATABASE_URL does not own the schema corporate", do)
    return good("the role in OWNER_DATABASE_URL can be used")


def _schema(engine: Engine) -> Verdict:
    wanted, do = schema.newest(), "Run `haulage migrate`."
    with reading(engine) as connection:
        if not connection.scalar(text("SELECT true FROM pg_namespace WHERE nspname = 'corporate'")):
            return bad(f"there is none; this release needs revision {wanted}", do)
        if not connection.scalar(text("SELECT has_schema_privilege('corporate', 'USAGE')")):
            return bad(
                "this role may not look into the schema corporate",
                "As its owner: GRANT USAGE ON SCHEMA corporate to it; or correct DATABASE_URL.",
            )
        if not connection.scalar(text("SELECT to_regclass('corporate.alembic_version') IS NOT NULL")):
            return bad(f"there are no tables of Haulage's in it; this release needs revision {wanted}", do)
        found = connection.scalar(text("SELECT version_num FROM corporate.alembic_version"))
    if found is None or found < wanted:
        return bad(f"it is at revision {found or 'none'}, this release needs {wanted}", do)
    if found != wanted:
        return warning(
            f"it is at revision {found}, newer than this release's {wanted}",
            "Replace these processes by the newer release soon.",
        )
    return good(f"it is at revision {found}, this release's own")
