"""Brings the database's schema to this release, and says whether it is there."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app import database
from app.errors import DatabaseRefused
from app.models import SCHEMA

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
    engine = database.short_lived_engine(url)
    with engine.begin() as connection:
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


def check() -> None:
    """Raise DatabaseRefused if the schema is not the one this release was written for."""
    with database.session_scope() as session:
        found = _revision(session.connection())
    wanted = ScriptDirectory.from_config(_config()).get_current_head()
    if found != wanted:
        raise DatabaseRefused(
            f"The database is at revision {found or 'none'}, this release needs {wanted}: run `haulage migrate`"
        )
