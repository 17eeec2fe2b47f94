"""Brings the database's schema to this release, and says whether it is there."""

import logging
from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app import database
from app.errors import DatabaseRefused
from app.models import SCHEMA

log = logging.getLogger(__name__)

_ONE_AT_A_TIME = 4_851_207_733  # an advisory lock's number, ours by choice


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("app.migrations")))
    config.set_main_option("path_separator", "os")
    return config


def migrate(url: str) -> str:
    """Create or upgrade the schema as the role in `url`; return the revision it is at then.

    Everything happens in one transaction. A second migration started meanwhile waits for the first.
    """
    with database.short_lived_engine(url).begin() as connection:
        return upgrade(connection)


def upgrade(connection: Connection) -> str:
    """Create or upgrade the schema in the connection's transaction; return the revision it is at then."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ONE_AT_A_TIME})
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS corporate"))
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return str(_revision(connection))


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(
        connection, opts={"version_table_schema": SCHEMA}
    ).get_current_revision()


def newest() -> str:
    """Return the revision that this release was written for."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def check() -> None:
    """Raise DatabaseRefused if the schema is older than this release, or none.

    A newer one will do: migrations only add, so that a release goes on working while the next one takes its place.
    """
    with database.session_scope() as session:
        found = _revision(session.connection())
    wanted = newest()
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
