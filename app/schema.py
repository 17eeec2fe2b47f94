"""Brings the database's schema to this release, and says whether it is there."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from app import database
from app.errors import DatabaseRefused
from app.models import SCHEMA

log = logging.getLogger(__name__)

_ONE_AT_A_TIME = 4_851_207_733  # an advisory lock's number, ours by choice
_TRY_TO_BE_ALONE = text("SELECT pg_try_advisory_lock(:number)")
# Whoever wants a table waits behind a migration that waits for it; the processes' own lock_timeout is 3 s.
STEP_LOCK_SECONDS = 1
STEP_TRIES = 10
STEP_PAUSE_SECONDS = 2.0
INDEX_LOCK_SECONDS = 60  # nobody waits behind this one


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("app.migrations")))
    config.set_main_option("path_separator", "os")
    return config


def migrate(url: str) -> str:
    """Create or upgrade the schema as the role in `url`; return the revision it is at then.

    Made to run beside processes at work: what takes long is done first and locks nobody out, and each revision is one
    transaction that takes its locks at once or not at all. Raises DatabaseRefused if it could not, with the schema as it
    was. A second migration started meanwhile waits for the first; a newer schema is left alone.
    """
    engine = database.short_lived_engine(url)
    with _alone(engine) as connection:
        found = _revision(connection)
        if found is None:
            return _step(engine, "head")
        for script in _between(found):
            _build_indexes(connection, getattr(script.module, "INDEXES", {}))
            found = _step(engine, script.revision)
        return found


def upgrade(connection: Connection) -> str:
    """Create or upgrade the schema in the connection's transaction; return the revision it is at then."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ONE_AT_A_TIME})
    return _upgrade(connection, "head")


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """Yield a connection outside of any transaction while no other migration runs.

    Who comes second asks again and again: a statement that waits would hold up the indexes that the first one builds.
    """
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        while not connection.scalar(_TRY_TO_BE_ALONE, {"number": _ONE_AT_A_TIME}):
            time.sleep(0.2)
        yield connection


def _between(found: str) -> Sequence[Script]:
    """Return the migrations from this revision to the newest, in their order; none from one that is newer still."""
    if found > newest():
        log.warning("The database is at revision %s, newer than this release; nothing to do", found)
        return ()
    return list(ScriptDirectory.from_config(_config()).iterate_revisions("head", found))[::-1]


def _build_indexes(connection: Connection, indexes: Mapping[str, str]) -> None:
    """Build what a migration wants on tables that there are, while others write to them."""
    connection.execute(text(f"SET lock_timeout = '{INDEX_LOCK_SECONDS}s'"))
    is_valid = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    for name, on in indexes.items():
        there = connection.scalar(is_valid, {"name": f"{SCHEMA}.{name}"})
        with _in_the_way("an index could not be built"):
            if there is False:  # what an interrupted one leaves
                connection.execute(text(f"DROP INDEX CONCURRENTLY {SCHEMA}.{name}"))
            if not there:
                connection.execute(text(f"CREATE INDEX CONCURRENTLY {name} ON {on}"))


def _step(engine: Engine, revision: str) -> str:
    """Upgrade to a revision in one transaction, in several tries if its locks are not to be had."""
    for _ in range(STEP_TRIES - 1):
        try:
            return _try_step(engine, revision)
        except DBAPIError as error:
            if not _is_in_the_way(error):
                raise
            log.warning("Somebody holds what the migration must change; it tries again")
        time.sleep(STEP_PAUSE_SECONDS)
    with _in_the_way("a table that must be changed could not be locked"):
        return _try_step(engine, revision)


def _try_step(engine: Engine, revision: str) -> str:
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{STEP_LOCK_SECONDS}s'"))
        return _upgrade(connection, revision)


def _is_in_the_way(error: DBAPIError) -> bool:
    return getattr(error.orig, "pgcode", None) in database.IN_THE_WAY


@contextmanager
def _in_the_way(what: str) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if not _is_in_the_way(error):
            raise
        raise DatabaseRefused(
            f"The schema is as it was: {what}, because somebody's transaction does not end: a backup, or a "
            "forgotten session? The oldest xact_start in pg_stat_activity tells whose. Then run this again"
        ) from error


def _upgrade(connection: Connection, revision: str) -> str:
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS corporate"))
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    return str(_revision(connection))


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(
        connection, opts={"version_table_schema": SCHEMA}
    ).get_current_revision()


@cache
def newest() -> str:
    """Return the revision that this release was written for.

    Read once: the files on the disk may be those of the next release, while this one goes on working.
    """
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def check() -> None:
    """Raise DatabaseRefused if the schema is older than this release, or none.

    A newer one will do: migrations only add, so that a release goes on working while the next one takes its place.
    """
    wanted = newest()  # before anything can fail: a process asks at its start, and the answer stays
    with database.session_scope() as session:
        found = _revision(session.connection())
    if found is None or found < wanted:
        raise DatabaseRefused(
            f"The database is at revision {found or 'none'}, this release needs {wanted}: run `haulage migrate`"
        )
    if found != wanted:
        log.warning(
            "The database is at revision %s, newer than this release (%s): replace this process soon",
            found,
            wanted,
        )
