"""One installation of Haulage for a test: a database of its own, directories, an environment, corporation 7."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import redis
from sqlalchemy import make_url

from app import catalogue, database, schema
from app.drives.filesystem import FilesystemDrive
from app.models import StagingIdentity
from app.settings import settings
from app.staging import Staging
from local.servers import Servers

CORP = 7


@dataclass(frozen=True)
class Installation:
    servers: Servers
    environment: dict[str, str]
    root: Path

    @property
    def staging_dir(self) -> Path:
        return self.root / "staging"

    @property
    def inbox(self) -> Path:
        return self.root / "inbox" / str(CORP)

    @property
    def drive_dir(self) -> Path:
        return self.root / "drive"

    @staticmethod
    def forget_process_state() -> None:
        """Make this process read its settings anew, and connect to the database they name."""
        engine = database._process.pop("engine", None)
        if engine is not None:
            engine.dispose()
        settings.cache_clear()
        from tasks import means

        means.means.cache_clear()

    def query(self, statement: str, *parameters: object) -> list[tuple]:
        """Ask from outside, as the owner, on a connection of its own."""
        connection = psycopg2.connect(self.environment["OWNER_DATABASE_URL"])
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


def in_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def execute(url: str, statement: str) -> None:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        connection.cursor().execute(statement)
    finally:
        connection.close()


def make_template(servers: Servers) -> str:
    execute(servers.admin_url, "CREATE DATABASE template_haulage OWNER haulage_owner")
    schema.migrate(in_database(servers.owner_url, "template_haulage"))
    return "template_haulage"


@contextmanager
def fresh_installation(servers: Servers, template: str, root: Path) -> Iterator[Installation]:
    name = f"test_{secrets.token_hex(6)}"
    execute(servers.admin_url, f"CREATE DATABASE {name} OWNER haulage_owner TEMPLATE {template}")
    redis.Redis.from_url(servers.redis_url).flushall()
    made = Installation(servers, _environment(servers, name, root), root)
    _furnish(made)
    yield made
    execute(servers.admin_url, f"DROP DATABASE {name} WITH (FORCE)")


def _environment(servers: Servers, name: str, root: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": in_database(servers.worker_url, name),
        "WEB_DATABASE_URL": in_database(servers.web_url, name),
        "OWNER_DATABASE_URL": in_database(servers.owner_url, name),
        "REDIS_URL": servers.redis_url,
        "STAGING_DIR": str(root / "staging"),
        "INBOX_DIR": str(root / "inbox"),
        "DRIVE_DIR": str(root / "drive"),
        "STAGING_RESERVE_BYTES": "0",
        "LEASE_SECONDS": "3",
        "RETRY_SECONDS": "1",
        "SWEEP_SECONDS": "1",
    }


def _furnish(made: Installation) -> None:
    for folder in (made.inbox, made.drive_dir):
        folder.mkdir(parents=True)
    identity = Staging(made.staging_dir, 1, 0).prepare()
    root = FilesystemDrive(made.drive_dir).make_root(CORP)
    engine = database.short_lived_engine(made.environment["OWNER_DATABASE_URL"])
    with database.Session(engine) as session, session.begin():
        session.add(StagingIdentity(identity=identity))
        catalogue.add_corporation(session, CORP, "Test", root.id)
